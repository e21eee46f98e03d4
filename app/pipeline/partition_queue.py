"""Batches that wait for their turn, partition by partition: in, a batch as it arrives; out, the next one to process.

Each epoch has queues of its own. What came in an epoch before was drained, and no batch of the next one follows it.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from enum import Enum

from app.core.batch.batch import Batch
from app.pipeline.coalesce import CoalesceLimit, take


class StoreOutcome(Enum):
    """What became of a batch that was processed."""

    STORED = "stored"
    INTERRUPTED = "interrupted"  # its offset stays, and the batch comes again


class PartitionQueue:
    """Batches of one partition and epoch, in offset order, and the tasks of those before them."""

    def __init__(self, most: CoalesceLimit) -> None:
        """`most`: how much is joined into one batch."""
        self._most = most
        self._waiting: deque[Batch] = deque()
        self.processing: asyncio.Task[None] | None = None  # takes what waits
        self.storing: asyncio.Task[StoreOutcome] | None = None  # of the batch that was processed last

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether no task takes what waits."""
        return self.processing is None or self.processing.done()

    def put(self, batch: Batch) -> None:
        """Let a batch wait behind the others."""
        self._waiting.append(batch)

    def take(self) -> Batch:
        """The batch that waits first, joined with as many of those after it as fit (coalesce.py)."""
        return take(self._waiting, self._most)

    def clear(self) -> None:
        """Let go of all that waits: it comes again."""
        self._waiting.clear()


class PartitionQueues:
    """The queues of the current epoch, by partition."""

    def __init__(self, most: CoalesceLimit) -> None:
        """`most`: how much is joined into one batch."""
        self._most = most
        self._queues: dict[tuple[int, int], PartitionQueue] = {}  # by epoch and partition

    def __iter__(self) -> Iterator[PartitionQueue]:
        return iter(self._queues.values())

    def put(self, batch: Batch) -> PartitionQueue:
        """Let a batch wait; the queue it waits in. The first batch of an epoch ends the queues of the one before."""
        key = (batch.epoch, batch.partition)
        if key not in self._queues:
            self._queues = {known: queue for known, queue in self._queues.items() if known[0] == batch.epoch}
            self._queues[key] = PartitionQueue(self._most)
        queue = self._queues[key]
        queue.put(batch)
        return queue

    def clear(self) -> None:
        """Let go of all that waits."""
        for queue in self:
            queue.clear()


def is_stored(storing: asyncio.Task[StoreOutcome]) -> bool:
    """Whether a task that is done has stored its batch: it was neither interrupted nor cancelled, and did not fail."""
    return not storing.cancelled() and storing.exception() is None and storing.result() is StoreOutcome.STORED
