"""The progress of a sink's flushes: completed records, in the order they were added; out, one Flushed of all of these.

The progress outlives a cancelled flush: the next flush reports what was written before the cancellation.
"""

from collections.abc import Collection, Mapping, Sequence

from app.sinks.port import Flushed
from app.sinks.record import SinkRecord

NONE_REFUSED: Mapping[int, str] = {}


class FlushProgress:
    """Completed records that no Flushed has reported yet."""

    def __init__(self) -> None:
        self._upto: dict[int, int] = {}
        self._refused: list[tuple[SinkRecord, str]] = []

    def done(self, records: Sequence[SinkRecord], refused: Mapping[int, str] = NONE_REFUSED) -> None:
        """The destination has these records except `refused`, {index in `records`: why, in the destination's words}."""
        self._upto |= {record.partition: record.offset + 1 for record in records}
        self._refused += [(records[index], refused[index]) for index in sorted(refused)]

    def drop(self, partitions: Collection[int]) -> None:
        """Forget the progress in these partitions, which this process may no longer commit."""
        for partition in partitions:
            self._upto.pop(partition, None)
        self._refused = [one for one in self._refused if one[0].partition not in partitions]

    def taken(self) -> Flushed:
        """All records completed since the last call."""
        flushed = Flushed(self._upto, self._refused)
        self._upto, self._refused = {}, []
        return flushed
