"""Batches that wait for their turn, partition by partition: in, a batch as it arrives; out, the next batch to process.

A batch is what a poll of Kafka brought. While the database is slow, polls go on and bring a little each: stored singly
these batches would never catch up. The queue joins them, so that the next batch is again whatever has arrived.

Each epoch has queues of its own. Batches of an epoch before were drained, and no batch of the next epoch follows them.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from app.core.batch.batch import Batch
from app.pipeline.batch_parts import CoalescedBatch, split


class CoalesceLimit(NamedTuple):
    """How much may be joined into one batch; a batch that is larger by itself stays as it is."""

    rows: int = 5000
    bytes: int = 1 << 20  # of payload


class StoreOutcome(Enum):
    """What became of a batch that was processed."""

    STORED = "stored"
    INTERRUPTED = "interrupted"  # the batch's offset stays, and the batch comes again


class PartitionQueue:
    """Batches of one partition and epoch, in offset order, and the tasks of the batches before."""

    def __init__(self, partition: int, most: CoalesceLimit) -> None:
        """`most`: how much is joined into one batch."""
        self.partition, self._most = partition, most
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
        """Take the batch that waits first, joined with as many of the batches after it as fit."""
        waiting, most = self._waiting, self._most
        parts = [waiting.popleft()]
        rows, size = len(parts[0].records), 0
        while waiting and (rows := rows + len(waiting[0].records)) <= most.rows:
            size = (size or _bytes(parts[0])) + _bytes(waiting[0])
            if size > most.bytes:
                break
            parts.append(waiting.popleft())
        return parts[0] if len(parts) == 1 else CoalescedBatch(parts)

    def leave_over(self, batch: Batch, count: int) -> Batch:
        """Let the last `count` records of a batch that was taken wait again, in front; returns the batch without
        them.
        """
        first, rest = split(batch, count)
        self._waiting.extendleft(reversed(rest))
        return first

    def clear(self) -> None:
        """Let go of all batches that wait: they come again."""
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
        """Let a batch wait; returns its queue. The first batch of an epoch ends the queues of the epoch before."""
        key = (batch.epoch, batch.partition)
        if key not in self._queues:
            self._queues = {known: queue for known, queue in self._queues.items() if known[0] == batch.epoch}
            self._queues[key] = PartitionQueue(batch.partition, self._most)
        queue = self._queues[key]
        queue.put(batch)
        return queue

    def clear(self) -> None:
        """Let go of all batches that wait."""
        for queue in self:
            queue.clear()


def _bytes(batch: Batch) -> int:
    return sum(len(record.value or b"") for record in batch.records)


def is_stored(storing: asyncio.Task[StoreOutcome]) -> bool:
    """Whether a task that is done has stored its batch: it was neither interrupted nor cancelled, and did not fail."""
    return not storing.cancelled() and storing.exception() is None and storing.result() is StoreOutcome.STORED
