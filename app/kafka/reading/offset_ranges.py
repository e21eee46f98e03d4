"""Parts of a topic: in, offsets, partitions and times that a command was asked for; out, the offsets of each partition.

Kafka finds the first record of a time by its index. So a part is one run of offsets of each partition, and times of
records that were written out of order may lie outside the times that were asked for.
"""

import re
from collections.abc import Sequence

from aiokafka import TopicPartition
from msgspec import Struct

from app.errors import PermanentError
from app.kafka.reading.record_log import RecordLog

_RANGE = re.compile(r"(?:([0-9]{1,6}):)?([0-9]{1,18})(-([0-9]{1,18})?)?").fullmatch


class PartError(PermanentError):
    """A part of a topic is not one, or the topic does not have it; str() says why."""


class OffsetRange(Struct, frozen=True):
    """Offsets of a partition, or of each partition (None), from `first` to `last`, both inclusive; `last` None: on."""

    partition: int | None
    first: int
    last: int | None

    def has(self, partition: int, offset: int) -> bool:
        """Whether a place is within the range."""
        if self.partition not in (None, partition) or offset < self.first:
            return False
        return self.last is None or offset <= self.last


def offset_range(text: str) -> OffsetRange:
    """The range that `3:100-200`, `3:100`, `3:100-` or, for every partition, `100-200` names. Raises PartError."""
    found = _RANGE(text)
    if not found:
        raise PartError(f"{text!r} is no range of offsets such as 3:100-200, 3:100, 3:100- or 100-200")
    partition, first, on, last = found.groups()
    end = int(first) if on is None else None if last is None else int(last)
    if end is not None and end < int(first):
        raise PartError(f"{text!r} ends before it begins")
    return OffsetRange(None if partition is None else int(partition), int(first), end)


class PartitionRange(Struct, frozen=True):
    """Offsets of one partition, from `begin` up to, not including, `end`. Not each of them has to be a record."""

    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


class PartOfTopic(Struct, frozen=True):
    """What a command was asked for; an option that was not given leaves all in. Times are milliseconds since 1970, of
    Kafka's timestamps, both inclusive.
    """

    partitions: tuple[int, ...] = ()
    offsets: tuple[OffsetRange, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None

    def wants(self, partition: int) -> bool:
        """Whether any offset of a partition is meant."""
        if self.partitions and partition not in self.partitions:
            return False
        return not self.offsets or self.range_of(partition) is not None

    def within(self, partition: int, held: PartitionRange, since: int, until: int) -> PartitionRange:
        """The offsets that are meant of a partition of which Kafka has `held`, and whose first records of the times
        that were asked for, or behind them, are at `since` and `until`.
        """
        begin, end = max(held.begin, since), min(held.end, until)
        if one := self.range_of(partition):
            begin = max(begin, one.first)
            end = end if one.last is None else min(end, one.last + 1)
        begin = min(begin, held.end)
        return PartitionRange(begin, max(begin, end))

    def check(self, partitions: int) -> None:
        """Raises PartError for a partition that a topic of so many does not have, for two ranges of one, and for a
        range of a partition that is left out.
        """
        named = [*self.partitions, *(one.partition for one in self.offsets if one.partition is not None)]
        if strange := [str(one) for one in sorted(set(named)) if one >= partitions]:
            most = partitions - 1
            raise PartError(f"there is no partition {', '.join(strange)}: the topic's are 0 to {most}")
        for one in self.offsets:
            if self.partitions and one.partition is not None and one.partition not in self.partitions:
                raise PartError(f"--offset names partition {one.partition}, which --partition leaves out")
        for partition in range(partitions):
            found = [one for one in self.offsets if one.partition in (None, partition)]
            if len(found) > 1:
                raise PartError(f"--offset names two ranges of partition {partition}: name one range for each")

    def range_of(self, partition: int) -> OffsetRange | None:
        """The offsets that were named for a partition; None: none were."""
        return next((one for one in self.offsets if one.partition in (None, partition)), None)


async def offsets_of(log: RecordLog, asked: PartOfTopic) -> dict[TopicPartition, PartitionRange]:
    """The offsets of each partition that is meant, of those that Kafka holds; a range may be empty.

    Raises PartError for a partition that the topic does not have, KAFKA_ERRORS when Kafka is away.
    """
    asked.check(len(log.tps))
    starts, ends = await log.starts(), await log.ends()
    since = starts if asked.since_ms is None else await log.since(asked.since_ms, ends)
    until = ends if asked.until_ms is None else await log.since(asked.until_ms + 1, ends)
    return {
        tp: asked.within(tp.partition, PartitionRange(starts[tp], ends[tp]), since[tp], until[tp])
        for tp in log.tps
        if asked.wants(tp.partition)
    }


def records_in(ranges: Sequence[PartitionRange]) -> int:
    """How many offsets the ranges have: records, and the gaps that compaction and transactions leave."""
    return sum(map(len, ranges))
