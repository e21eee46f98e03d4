"""Concurrent streams to several gateways, and their auditor; a context around the faults of the gateways."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from tests.workers import Site, until
from tools.faults.accounts import Accounts, draw_up
from tools.faults.senders import Pace
from tools.faults.tail import Tail
from tools.faults.ways.sender import send_over
from tools.faults.ways.setup import Door
from tools.faults.ways.streams import WayStream

DEVICES, SEED = 48, 5  # devices of each gateway's stream; seed
ENDLESS = 10**12
PATIENCE = 180.0  # seconds until all sent messages are answered


class Traffic:
    """A stream for each way, `rate` messages a second of each, and the auditor of the input topic."""

    def __init__(self, site: Site, entrance: Door, ways: Sequence[str], rate: float) -> None:
        begin = (datetime.now(UTC) - timedelta(days=1)).replace(microsecond=1)
        self.streams = [WayStream(way, site.unique, DEVICES, SEED, begin) for way in ways]
        self.paces = [Pace(stream) for stream in self.streams]
        for pace in self.paces:
            pace.rate, pace.goal, pace.share = rate, ENDLESS, ENDLESS
        self.tail = Tail(site, self.streams)
        self._site, self._door = site, entrance
        self._running: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Send messages while the context lasts; at its end all sent messages are answered."""
        self._running = [asyncio.create_task(self.tail.run())]
        self._running += [asyncio.create_task(send_over(pace.stream, self._door, pace)) for pace in self.paces]
        try:
            yield
            for pace in self.paces:
                pace.goal = max(pace.next, pace.stream.sent)
            await until(self._seen, PATIENCE, lambda: f"answered, to be answered: {self._state()}")
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def reached(self, stream: WayStream, count: int, seconds: float = 300.0) -> None:
        """Wait until `count` messages of a stream are answered."""

        async def sent() -> bool:
            self.check()
            return stream.sent >= count

        await until(sent, seconds, lambda: f"{stream.way}: {stream.sent} of {count} are answered")

    async def under_way(self, stream: WayStream) -> None:
        """Return while messages of a stream are sent and not yet answered."""
        pace = self.paces[self.streams.index(stream)]
        while pace.next == stream.sent:  # noqa: ASYNC110 - a counter, not an event
            await asyncio.sleep(0)

    def check(self) -> None:
        """Raise what a sender or the auditor raised."""
        for task in self._running:
            if task.done():
                task.result()

    async def audited(self) -> Accounts:
        """The balanced accounts, after all processing has ended; fails with every problem."""
        accounts = await draw_up(self._site, self.streams, self.tail, None)
        assert not accounts.problems, "\n".join(accounts.problems)
        for stream in self.streams:
            rows, letters = sum(accounts.rows[stream.letter]), sum(accounts.letters[stream.letter])
            assert rows + letters == stream.sent
            assert letters, f"{stream.way}: the stream has no bad messages"
        assert accounts.kafka.episodes > 0
        return accounts

    def summary(self, accounts: Accounts) -> str:
        """The counts of messages as text, for the log of a test."""
        parts = [
            f"{stream.way}: {stream.sent:,} answered = {sum(accounts.rows[stream.letter]):,} rows"
            f" + {sum(accounts.letters[stream.letter]):,} dead letters"
            for stream in self.streams
        ]
        return f"{'; '.join(parts)}; {self.tail.repeats():,} repeats"

    async def _seen(self) -> bool:
        self.check()
        answered = all(pace.stream.sent >= pace.goal for pace in self.paces)
        return answered and all(self.tail.has(stream) for stream in self.streams)

    def _state(self) -> dict[str, tuple[int, int]]:
        return {stream.way: (stream.sent, pace.goal) for stream, pace in zip(self.streams, self.paces, strict=True)}
