"""Items of a caller's source -> batches of a stream, as full as they come within a moment."""

import asyncio
from collections.abc import AsyncIterable, Iterable

from app.client.acked_stream import AckedStream
from app.client.pace import Pace
from app.client.sent_batch import Batcher, Item

TURN = 1000  # items of a source that never waits, until other tasks have a turn


class Feeder:
    """Puts the items of one source into one sending."""

    def __init__(self, sending: AckedStream, pace: Pace) -> None:
        self._sending, self._pace = sending, pace
        self._batcher = Batcher(pace)
        self._one = asyncio.Lock()  # held from the making of a batch until it is put: batches are put in their order

    async def feed(self, items: AsyncIterable[Item] | Iterable[Item]) -> None:
        """Put all items, and end the sending: a batch when it is full, and the gathered items every Pace.linger
        seconds. What `items` raises is raised after the items before it were put.

        Raises what ends the sending.
        """
        reading = asyncio.ensure_future(self._read(items) if isinstance(items, AsyncIterable) else self._take(items))
        lingering = asyncio.ensure_future(self._linger())
        try:
            await asyncio.wait({reading, lingering}, return_when=asyncio.FIRST_COMPLETED)
            if lingering.done():
                lingering.result()  # raises
            await self._rest()
            reading.result()
        finally:
            self._sending.end()
            for task in (reading, lingering):
                task.cancel()
            await asyncio.gather(reading, lingering, return_exceptions=True)

    async def _read(self, items: AsyncIterable[Item]) -> None:
        number = 0
        async for item in items:
            await self._add(item)
            number += 1
            if number % TURN == 0:
                await asyncio.sleep(0)

    async def _take(self, items: Iterable[Item]) -> None:
        for number, item in enumerate(items, 1):
            await self._add(item)
            if number % TURN == 0:
                await asyncio.sleep(0)

    async def _add(self, item: Item) -> None:
        async with self._one:
            if batch := self._batcher.add(item):
                await self._sending.put(batch)

    async def _linger(self) -> None:
        while True:
            await asyncio.sleep(self._pace.linger)
            await self._rest()

    async def _rest(self) -> None:
        async with self._one:
            if batch := self._batcher.rest():
                await self._sending.put(batch)
