"""Batches of a partition that wait for the one before them: in, a queue of them; out, one batch in their place.

A batch is what a poll of Kafka brought. While the database is slow, polls go on and bring a little each: stored one by
one they would never catch up. Joined, a batch is again whatever has arrived.
"""

from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from app.core.batch.batch import Batch
from app.core.model.records import Record


class CoalesceLimit(NamedTuple):
    """How much may be joined into one batch; one that is larger by itself stays as it is."""

    rows: int = 5000
    bytes: int = 1 << 20  # of payload


class CoalescedBatch:
    """Batches that follow one another, as one (app.core.batch.batch.Batch)."""

    def __init__(self, parts: Sequence[Batch]) -> None:
        """`parts` are of one partition and epoch, in order; two of them at least."""
        first, last = parts[0], parts[-1]
        self.parts = parts
        self.topic, self.partition, self.epoch = first.topic, first.partition, first.epoch
        self.first_offset, self.next_offset = first.first_offset, last.next_offset
        self.records: Sequence[Record] = list(chain.from_iterable(part.records for part in parts))

    def current(self) -> bool:
        """False once any of them is someone else's: none of them is acked then."""
        return all(part.current() for part in self.parts)

    async def ack(self) -> None:
        """Ack them in their order."""
        for part in self.parts:
            await part.ack()


def take(waiting: deque[Batch], most: CoalesceLimit) -> Batch:
    """Take the first batch, joined with as many of those after it as fit."""
    parts = [waiting.popleft()]
    rows, size = len(parts[0].records), 0
    while waiting and (rows := rows + len(waiting[0].records)) <= most.rows:
        size = (size or _bytes(parts[0])) + _bytes(waiting[0])
        if size > most.bytes:
            break
        parts.append(waiting.popleft())
    return parts[0] if len(parts) == 1 else CoalescedBatch(parts)


def _bytes(batch: Batch) -> int:
    return sum(len(record.value or b"") for record in batch.records)
