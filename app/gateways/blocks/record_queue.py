"""Records that wait for Kafka's ack, in order per partition: as parts of blocks or as single records."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import TypeAlias

from msgspec import Struct

from app.gateways.blocks.place import Place
from app.gateways.blocks.record_block import JoinedRecords, RecordBlock
from app.gateways.record import IngestRecord
from app.kafka.encoding.record_batch import BatchEncoder, RecordBatch


class BlockRun(Struct, gc=False):
    """Some of the records of a block, in order (app.kafka.encoding.runs.EncodableRun)."""

    block: RecordBlock
    at: Sequence[int]  # indexes in the block
    devices: Sequence[Place]
    values: Sequence[bytes]
    tail: bytes
    ingest_ms: int

    def __len__(self) -> int:
        return len(self.values)

    def cut(self, start: int, end: int) -> "BlockRun":
        """The records from `start` up to `end`."""
        cut = slice(start, end)
        return BlockRun(self.block, self.at[cut], self.devices[cut], self.values[cut], self.tail, self.ingest_ms)

    def parted(self, of: Callable[[list[bytes]], list[int]]) -> "dict[int, BlockRun]":
        """Split the records by partition; `of` assigns a partition to each key."""
        partitions = of([device.key for device in self.devices])
        first = partitions[0]
        if partitions.count(first) == len(partitions):
            return {first: self}
        found: defaultdict[int, list[int]] = defaultdict(list)
        for number, partition in enumerate(partitions):
            found[partition].append(number)
        return {partition: self._some(numbers) for partition, numbers in found.items()}

    def _some(self, numbers: list[int]) -> "BlockRun":
        if len(numbers) == 1:
            return self.cut(numbers[0], numbers[0] + 1)
        pick = itemgetter(*numbers)
        at = numbers if len(self.values) == len(self.block) else pick(self.at)
        return BlockRun(self.block, at, pick(self.devices), pick(self.values), self.tail, self.ingest_ms)

    def records(self) -> list[IngestRecord]:
        """The record objects."""
        made = self.block.records()
        return [made[one] for one in self.at]


Segment: TypeAlias = BlockRun | list[IngestRecord]


class RecordQueue:
    """The waiting records of one partition; an empty queue is False."""

    __slots__ = ("segments",)

    def __init__(self, segments: list[Segment]) -> None:
        """`segments`: in order, no segment is empty."""
        self.segments = segments

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    def batch(self, encoder: BatchEncoder, max_bytes: int, most: int | None) -> RecordBatch:
        """A batch of as many of the first records as fit; `most`: the maximum number of records, None: no maximum."""
        if most:
            return encoder.batch(self.records()[:most], max_bytes)
        return encoder.batch_of(self.segments, max_bytes)

    def records(self) -> list[IngestRecord]:
        """The record objects; the queue keeps these objects from now on."""
        only = self.segments[0] if len(self.segments) == 1 else None
        if isinstance(only, list):
            return only
        made = list(chain.from_iterable([one if isinstance(one, list) else one.records() for one in self.segments]))
        self.segments = [made]
        return made

    def take(self, count: int) -> "RecordQueue":
        """Remove the first `count` records and return them as a queue."""
        taken: list[Segment] = []
        left = iter(self.segments)
        for one in left:
            if len(one) > count:
                if count:
                    taken.append(one[:count] if isinstance(one, list) else one.cut(0, count))
                rest = one[count:] if isinstance(one, list) else one.cut(count, len(one))
                self.segments = [rest, *left]
                return RecordQueue(taken)
            taken.append(one)
            count -= len(one)
        self.segments = []
        return RecordQueue(taken)

    def add(self, more: "RecordQueue") -> None:
        """Append the records of another queue."""
        self.segments += more.segments

    def parted(self, of: Callable[[list[bytes]], list[int]]) -> "dict[int, RecordQueue]":
        """Split the records by partition; `of` assigns a partition to each key."""
        found: defaultdict[int, list[Segment]] = defaultdict(list)
        for one in self.segments:
            if isinstance(one, list):
                lists: defaultdict[int, list[IngestRecord]] = defaultdict(list)
                for record, partition in zip(one, of([record.key for record in one]), strict=True):
                    lists[partition].append(record)
                for partition, some in lists.items():
                    found[partition].append(some)
            else:
                for partition, run in one.parted(of).items():
                    found[partition].append(run)
        return {partition: RecordQueue(segments) for partition, segments in found.items()}


def queue_of(records: Sequence[IngestRecord]) -> RecordQueue:
    """A queue of records before their split by partition. Of a block with existing record objects the objects count."""
    if type(records) is not JoinedRecords:
        return RecordQueue([list(records)] if records else [])
    return RecordQueue([_segment(part) for part in records.parts if part])


def _segment(part: RecordBlock | list[IngestRecord]) -> Segment:
    if type(part) is RecordBlock and part.untouched:
        return BlockRun(part, range(len(part)), part.places, part.values, part.tail, part.ingest_ms)
    return list(part)
