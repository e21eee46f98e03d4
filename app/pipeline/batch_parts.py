"""Batches put together and taken apart: several that were taken become one, and one that alerts too much several.

What Kafka gave is acknowledged as Kafka gave it: by the last part of it.
"""

from collections.abc import Sequence
from itertools import chain

from app.core.batch.batch import Batch
from app.core.model.records import Record


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
        """False once any of the parts is someone else's: none of them is acked then."""
        return all(part.current() for part in self.parts)

    async def ack(self) -> None:
        """Ack the parts in their order."""
        for part in self.parts:
            await part.ack()


class SplitBatch:
    """Some records of a batch that follow one another, as one (app.core.batch.batch.Batch)."""

    def __init__(self, whole: Batch, start: int, stop: int) -> None:
        """The records from index `start` to index `stop` of `whole`, at least one."""
        records, count = whole.records, len(whole.records)
        self.whole, self.start = whole, start
        self.topic, self.partition, self.epoch = whole.topic, whole.partition, whole.epoch
        self.first_offset = records[start].offset if start else whole.first_offset
        self.next_offset = records[stop].offset if stop < count else whole.next_offset
        self.records: Sequence[Record] = records[start:stop]
        self._last = stop == count

    def current(self) -> bool:
        """False once the whole is someone else's."""
        return self.whole.current()

    async def ack(self) -> None:
        """Ack the whole with its last record: batches of a partition are acked in their order."""
        if self._last:
            await self.whole.ack()


def split(batch: Batch, left_over: int) -> tuple[Batch, list[Batch]]:
    """The batch without its last `left_over` records, at least one and not all; and these, in the batches that they
    were taken in.
    """
    parts = list(batch.parts) if isinstance(batch, CoalescedBatch) else [batch]
    rest: list[Batch] = []
    while left_over >= len(parts[-1].records):
        rest.insert(0, parts.pop())
        left_over -= len(rest[0].records)
    if left_over:
        part = parts.pop()
        whole, start = (part.whole, part.start) if isinstance(part, SplitBatch) else (part, 0)
        stop = start + len(part.records)
        parts.append(SplitBatch(whole, start, stop - left_over))
        rest.insert(0, SplitBatch(whole, stop - left_over, stop))
    return parts[0] if len(parts) == 1 else CoalescedBatch(parts), rest
