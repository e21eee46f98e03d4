"""How far a sink came: records that are done with, in the order they were added; out, a Flushed of all since the last.

Kept over a flush that is cancelled: what was written before the cancel is told of by the next.
"""

from collections.abc import Collection, Mapping, Sequence

from app.sinks.port import Flushed
from app.sinks.record import SinkRecord

# Of a reading with a few fields, its record and headers, as tracemalloc counts them; the payload is there twice, once
# as the texts in its reading.
RECORD_BYTES = 1500
NONE_REFUSED: Mapping[int, str] = {}


def memory(records: Sequence[SinkRecord]) -> int:
    """About how many bytes records take in memory, all that hangs on them included."""
    return RECORD_BYTES * len(records) + 2 * sum([len(record.payload) for record in records])


class FlushProgress:
    """What is done with and not yet told."""

    def __init__(self) -> None:
        self._upto: dict[int, int] = {}
        self._refused: list[tuple[SinkRecord, str]] = []

    def done(self, records: Sequence[SinkRecord], refused: Mapping[int, str] = NONE_REFUSED) -> None:
        """The destination has these records, but those that it refuses for ever: {index in `records`: its words}."""
        self._upto |= {record.partition: record.offset + 1 for record in records}
        self._refused += [(records[index], refused[index]) for index in sorted(refused)]

    def drop(self, partitions: Collection[int]) -> None:
        """Forget what is done of these partitions: nobody may commit it any more."""
        for partition in partitions:
            self._upto.pop(partition, None)
        self._refused = [one for one in self._refused if one[0].partition not in partitions]

    def taken(self) -> Flushed:
        """All that is done since the last call."""
        flushed = Flushed(self._upto, self._refused)
        self._upto, self._refused = {}, []
        return flushed
