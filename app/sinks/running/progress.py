"""How far each partition came: in, what was read, handed to the sink and written; out, what may be committed."""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from app.sinks.port import Flushed


class ReadChunk(NamedTuple):
    """Records that came in within the same second, and of which the sink was given some."""

    last: int  # the last offset that it was given
    since: int  # when the first of them came in, milliseconds since 1970


class PartitionProgress(Struct, eq=False):
    """One partition that is ours."""

    read_to: int  # the offset that is read next
    position: int  # every record before it is done: what may be committed
    committed: int | None  # what the group has committed, as far as this process knows
    open: deque[ReadChunk]  # the sink has them, or some of them
    settled: bool  # reading has begun there

    def lag(self, end: int | None) -> int:
        """Records that are not done, of a log that ends at `end`; 0 when nobody knows its end."""
        return max(0, end - self.position) if end is not None else 0


class Progress:
    """The partitions that are ours, each with how far it came."""

    def __init__(self) -> None:
        self._partitions: dict[int, PartitionProgress] = {}

    @property
    def partitions(self) -> Mapping[int, PartitionProgress]:
        """By number."""
        return self._partitions

    def begin(self, partition: int, offset: int, committed: int | None, *, settled: bool = False) -> None:
        """Reading begins at `offset`, and the sink has nothing of the partition; `settled`: this will not change."""
        self._partitions[partition] = PartitionProgress(offset, offset, committed, deque(), settled)

    def forget(self, partitions: Collection[int]) -> None:
        """They are not ours any more."""
        for partition in partitions:
            self._partitions.pop(partition, None)

    def read(self, partition: int, next_offset: int, given: Sequence[int], since: int) -> None:
        """Records up to before `next_offset` were read; `given`: the offsets of those that the sink was given, whose
        first came in at `since`.
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
        """The sink is done with every record before the offsets of `found`; it never goes back, and a partition that is
        not ours is left alone.
        """
        for partition, offset in found.upto.items():
            if one := self._partitions.get(partition):
                while one.open and one.open[0].last < offset:
                    one.open.popleft()
                one.position = one.read_to if not one.open else max(one.position, min(offset, one.read_to))

    def to_commit(self) -> dict[int, int]:
        """{partition: offset} of those that came further than the group has committed."""
        return {number: one.position for number, one in self._partitions.items() if one.position != one.committed}

    def committed(self, offsets: Mapping[int, int]) -> None:
        """The group has committed these."""
        for partition, offset in offsets.items():
            if one := self._partitions.get(partition):
                one.committed = offset

    @property
    def oldest(self) -> int | None:
        """When the oldest record that is not done came in, milliseconds since 1970; None when all are done."""
        return min((one.open[0].since for one in self._partitions.values() if one.open), default=None)

    def lag(self, ends: Iterable[tuple[int, int | None]]) -> int:
        """Records that are not done, given (partition, end of its log)."""
        return sum(self._partitions[number].lag(end) for number, end in ends if number in self._partitions)
