"""Requests that await Kafka's ack: in, the future of a submission; out, what became of it, or nothing in time.

No request waits for ever, and no request costs a timer: one look a second finds the requests that waited too long.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from app.errors import TransientError
from app.gateways.intake import Intake, Refused
from app.gateways.record import IngestRecord

AWAY_SECONDS = 5.0  # Kafka may be away for so long before new requests are refused at once: a new leader takes less


class Acks:
    """The requests of one gateway that await Kafka's ack."""

    def __init__(self, intake: Intake, seconds: float, away_seconds: float = AWAY_SECONDS) -> None:
        """`seconds`: longest a request waits; `away_seconds`: longest Kafka is away before none waits any more."""
        self._intake, self._seconds, self._away_seconds = intake, seconds, away_seconds
        self._loop: Final = asyncio.get_running_loop()
        self._waiting: dict[asyncio.Future[Refused], float] = {}  # since when; the first is the oldest
        self._away_since: float | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def hopeless(self) -> bool:
        """Whether Kafka has been away for so long that one more request would only wait in vain."""
        return self._away_since is not None and self._loop.time() - self._away_since > self._away_seconds

    async def of(
        self, records: Sequence[IngestRecord], dead: list[IngestRecord], user: str | None = None
    ) -> Refused | None:
        """What Kafka refused of the records, once it has acknowledged all others; None: it did not in time.

        They may still be written after that; a sender that repeats them makes a repeat, and loses nothing.
        """
        future = self.begin(records, dead, user)
        try:
            return await future
        except TransientError:
            return None
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return None
        finally:
            self.end(future)

    def begin(
        self, records: Sequence[IngestRecord], dead: list[IngestRecord], user: str | None = None
    ) -> asyncio.Future[Refused]:
        """Submit; `end` is to follow. The future is cancelled where Kafka does not acknowledge it in time, and raises
        TransientError where the process stops.
        """
        future = self._intake.submit(records, dead, user)
        if not future.done():
            self._waiting[future] = self._loop.time()
        return future

    def end(self, future: asyncio.Future[Refused]) -> None:
        """Nobody waits for it any more."""
        self._waiting.pop(future, None)

    def sweep(self) -> None:
        """End the waiting that took too long; to be called about once a second."""
        now = self._loop.time()
        if self._intake.answered:  # not `available`: a Kafka that stands still is so for a minute
            self._away_since = None
        elif self._away_since is None:
            self._away_since = now
        self.give_up(now - self._seconds)

    def give_up(self, since: float) -> None:
        """Let requests that began to wait at `since` or before wait no longer (seconds of the loop's clock)."""
        late = []
        for future, began in self._waiting.items():
            if began > since:
                break
            late.append(future)
        for future in late:
            future.cancel()  # the future is of this request alone
