"""The progress of each partition: records read, given to the sink and written in; offsets to commit out."""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from app.sinks.port import Flushed


class ReadChunk(NamedTuple):
    """Records that arrived within the same second, and of which the sink was given some."""

    last: int  # the last offset that the sink was given
    since: int  # arrival of the first record, milliseconds since 1970


class PartitionProgress(Struct, eq=False):
    """The progress of one assigned partition."""

    read_to: int  # the next offset to read
    position: int  # every record before this offset is completed: the offset to commit
    committed: int | None  # the group's committed offset, as far as this process knows
    open: deque[ReadChunk]  # chunks that the sink has not completed
    settled: bool  # whether the partition is being read
    jump: tuple[int, int] = (0, 0)  # the widest since the last look: the offset expected, and the offset found
    reported: int = 0  # removed records before this offset were reported

    def found(self, offset: int) -> None:
        """The next record has this offset. Kafka has removed the records before it, or has none there, as after a
        transaction: `removed` decides by the start of the log.
        """
        if offset - self.read_to > self.jump[1] - self.jump[0]:
            self.jump = self.read_to, offset

    def removed(self, start: int) -> list[tuple[int, int]]:
        """The ranges of offsets, exclusive of their ends, that a log beginning at `start` has lost before they were
        read: each offset once.
        """
        found = []
        for expected, end in (self.jump, (self.read_to, start)):
            expected, end = max(expected, self.reported), min(end, start)
            if expected < end:
                found.append((expected, end))
                self.reported = end
        self.jump = 0, 0
        return found

    def lag(self, end: int | None) -> int:
        """Records of a log ending at `end` that are not completed; 0 when the end is unknown."""
        return max(0, end - self.position) if end is not None else 0


class Progress:
    """The progress of the assigned partitions."""

    def __init__(self) -> None:
        self._partitions: dict[int, PartitionProgress] = {}

    @property
    def partitions(self) -> Mapping[int, PartitionProgress]:
        """By number."""
        return self._partitions

    def begin(self, partition: int, offset: int, committed: int | None, *, settled: bool = False) -> None:
        """Reading begins at `offset`, and the sink has no record of the partition; `settled`: the offset is final."""
        self._partitions[partition] = PartitionProgress(offset, offset, committed, deque(), settled)

    def forget(self, partitions: Collection[int]) -> None:
        """Remove partitions."""
        for partition in partitions:
            self._partitions.pop(partition, None)

    def read(self, partition: int, next_offset: int, given: Sequence[int], since: int) -> None:
        """The records before `next_offset` were read; `given`: offsets of the records that the sink was given, the
        first of which arrived at `since`.
        """
        one = self._partitions[partition]
        one.read_to = next_offset
        if given:
            if one.open and one.open[-1].since // 1000 == since // 1000:  # a sink may hold records for an hour
                since = one.open.pop().since
            one.open.append(ReadChunk(given[-1], since))
        elif not one.open:
            one.position = next_offset

    def flushed(self, found: Flushed) -> None:
        """The sink has completed every record before the offsets of `found`. A position never decreases, and unassigned
        partitions are ignored.
        """
        for partition, offset in found.upto.items():
            if one := self._partitions.get(partition):
                while one.open and one.open[0].last < offset:
                    one.open.popleft()
                one.position = one.read_to if not one.open else max(one.position, min(offset, one.read_to))

    def to_commit(self) -> dict[int, int]:
        """{partition: offset} of the partitions with progress since the last commit."""
        return {number: one.position for number, one in self._partitions.items() if one.position != one.committed}

    def committed(self, offsets: Mapping[int, int]) -> None:
        """These offsets were committed."""
        for partition, offset in offsets.items():
            if one := self._partitions.get(partition):
                one.committed = offset

    @property
    def oldest(self) -> int | None:
        """Arrival of the oldest record that is not completed, milliseconds since 1970; None when all are completed."""
        return min((one.open[0].since for one in self._partitions.values() if one.open), default=None)

    def lag(self, ends: Iterable[tuple[int, int | None]]) -> int:
        """Records that are not completed, given (partition, end of its log)."""
        return sum(self._partitions[number].lag(end) for number, end in ends if number in self._partitions)
