"""Batches of a stream between their reading and their ack: in the order they were read, bounded in number and in bytes.

A sender that is ahead of Kafka by the whole window is not read any more, so that gRPC's flow control holds it back.
"""

import asyncio
from collections import deque

from app.gateways.grpc.taken_batch import TakenBatch

BYTES = 8 << 20  # of batches as they were sent


class AckWindow:
    """The batches of one stream: one task adds, another takes them out."""

    def __init__(self, most: int, most_bytes: int = BYTES) -> None:
        """At most so many batches and bytes, and one batch of any size if there is no other."""
        self._most, self._most_bytes = most, most_bytes
        self._batches: deque[TakenBatch] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._batches)

    async def room(self) -> None:
        """Return once one more batch may be read."""
        while len(self._batches) >= self._most or self._bytes >= self._most_bytes:
            await self._change()

    def add(self, batch: TakenBatch) -> None:
        """Add a batch that was read."""
        self._batches.append(batch)
        self._bytes += batch.size
        self._changed.set()

    def close(self) -> None:
        """Note that nothing more will be read."""
        self._closed = True
        self._changed.set()

    async def first(self) -> TakenBatch | None:
        """The batch that is to be acknowledged next; it stays until `acknowledged`. None: there will be no more."""
        while not self._batches:
            if self._closed:
                return None
            await self._change()
        return self._batches[0]

    def acknowledged(self) -> None:
        """Take the first batch out: its sender has the ack."""
        self._bytes -= self._batches.popleft().size
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
