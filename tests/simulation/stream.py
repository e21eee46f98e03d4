"""Faust's stream: what the consumer hands over, until the agent takes it."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from tests.simulation.consumer import POLL_SECONDS


class SimStream:
    """The agent's."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._queue: asyncio.Queue[Any] = asyncio.Queue()

    async def filling(self) -> None:
        """Hand over what is fetched, as Faust's fetcher does."""
        while True:
            async for tp, message in self._consumer.getmany(POLL_SECONDS):
                self._consumer.handed_over(tp, message.first_offset)
                self._queue.put_nowait(SimpleNamespace(message=message))

    def clear(self) -> None:
        """Recovery throws away what waits for the agent."""
        while not self._queue.empty():
            self._queue.get_nowait()

    def noack(self) -> "SimStream":
        return self

    async def events(self) -> AsyncIterator[Any]:
        while True:
            yield await self._queue.get()

    async def ack(self, event: Any) -> None:
        await asyncio.sleep(0)
        self._consumer.ack(event.message)
        self._consumer.something_done.set()
