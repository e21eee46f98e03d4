"""A way to end waiting at once: for a rebalance or a shutdown, while an outage holds a write."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from app.errors import TransientError

T = TypeVar("T")


class Interrupt:
    """Ends all waiting for as long as its event is set."""

    def __init__(self, event: asyncio.Event) -> None:
        self.event = event

    async def sleep(self, seconds: float) -> None:
        """Sleep, or raise TransientError as soon as the event is set."""
        await self.race(asyncio.sleep(seconds))

    async def race(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns, or cancel it and raise TransientError as soon as the event is set.

        `work` must be something that may be cancelled half-way: a sleep, a connection being made.
        """
        task = asyncio.ensure_future(work)
        signal = asyncio.ensure_future(self.event.wait())
        try:
            await asyncio.wait({task, signal}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise TransientError("told to give up while waiting: nothing of this is done")
            return task.result()
        finally:
            signal.cancel()
            if task.cancel():
                await asyncio.wait({task})
