"""Waiting for work or for an event, whichever comes first: a rebalance or a stop ends what an outage holds up."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from app.errors import TransientError

T = TypeVar("T")
REASON = "interrupted while waiting: nothing of this is done"


async def set_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until `event` is set, for at most so many seconds (None: for as long as it takes); whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


class Interrupt:
    """Ends all waiting for as long as its event is set. Used in one event loop."""

    def __init__(self, event: asyncio.Event) -> None:
        self.event = event
        self._signal: asyncio.Task[bool] | None = None  # one task for all waits: a task for each would cost every write

    def is_set(self) -> bool:
        """Whether nothing is to be waited for now."""
        return self.event.is_set()

    async def first_of(self, *work: asyncio.Future[Any]) -> None:
        """Return as soon as one of `work` is done or the event is set; nothing is cancelled."""
        if self._signal is None or self._signal.done():
            self._signal = asyncio.ensure_future(self.event.wait())
        await asyncio.wait({*work, self._signal}, return_when=asyncio.FIRST_COMPLETED)

    async def race(self, work: Coroutine[Any, Any, T], seconds: float = 0.0, reason: str = REASON) -> T:
        """Return what `work` returns; once the event is set, `work` has `seconds` left, and is then cancelled.

        Raises TransientError with `reason` when `work` was cancelled, or has not begun as no time was left. `work`
        must be something that may end half-way: a connection being made, a question asked.
        """
        if self.is_set() and not seconds:
            work.close()
            raise TransientError(reason)
        task = asyncio.ensure_future(work)
        try:
            await self.first_of(task)
            if seconds:
                await asyncio.wait({task}, timeout=seconds)
            if not task.done():
                raise TransientError(reason)
            return task.result()
        finally:
            if task.cancel():
                await asyncio.wait({task})

    async def pause(self, seconds: float) -> None:
        """Sleep for so many seconds, or return as soon as the event is set."""
        await set_within(self.event, seconds)

    async def sleep(self, seconds: float) -> None:
        """Sleep for so many seconds. Raises TransientError as soon as the event is set."""
        if await set_within(self.event, seconds):
            raise TransientError(REASON)
