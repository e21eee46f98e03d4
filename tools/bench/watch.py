"""Times at which rows become visible to another session of the database."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

POLL = 0.002  # seconds between two queries
PATIENCE = 30.0  # seconds after the scheduled time of the last message
NEW_ROWS = "SELECT sequence_id FROM raw_telemetry WHERE time >= $1"


@dataclass(frozen=True)
class Load:
    """The published load: `count` messages, of which the first `skip` are warm-up and do not count."""

    rate: float
    skip: int
    count: int
    devices: int


class Watch:
    """For each message, the seconds from its scheduled time to its visible row (None: not yet visible)."""

    def __init__(self, start: float, load: Load) -> None:
        """`start`: the scheduled time of message 0, seconds since 1970."""
        self.start, self.load = start, load
        self.latency: list[float | None] = [None] * load.count
        self.cycles: list[float] = []  # seconds between two answers
        self._first = 0  # the rows of all messages before this number are visible

    async def until(self, number: int, database: str) -> None:
        """Query until the rows of the first `number` messages are visible. Raises TimeoutError if rows are missing."""
        connection = await asyncpg.connect(database, server_settings={"enable_seqscan": "off"})
        new_rows = await connection.prepare(NEW_ROWS)
        last = time.time()
        while self._first < number:
            since = datetime.fromtimestamp(self._due(self._first), UTC)
            self._saw([row[0] for row in await new_rows.fetch(since)], now := time.time())
            self.cycles.append(now - last)
            last = now
            if now > self._due(self.load.count) + PATIENCE:
                raise TimeoutError(f"message {self._first} of {self.load.count} still has no row")
            await asyncio.sleep(POLL)
        await connection.close()

    def counted(self) -> list[float]:
        """Latencies of the visible messages after the warm-up."""
        return [each for each in self.latency[self.load.skip :] if each is not None]

    def _due(self, number: int) -> float:
        return self.start + number / self.load.rate

    def _saw(self, numbers: list[int], now: float) -> None:
        for number in numbers:
            if self.latency[number] is None:
                self.latency[number] = now - self._due(number)
        while self._first < self.load.count and self.latency[self._first] is not None:
            self._first += 1
