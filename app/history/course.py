"""How far a replay into a table has come, in the offsets of a group of its own: kept by Kafka, and found again by the
same command.

Each offset has with it, as its metadata, where the replay ends: so a replay that was ended in the middle goes on to the
end that it had.
"""

from collections.abc import Mapping

import msgspec
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata
from msgspec import Struct

from app.kafka.reading.offset_ranges import PartitionRange


class HistoryMark(Struct, frozen=True):
    """The metadata of one partition's offset."""

    end: int  # the replay's, in this partition
    stored: int = 0  # rows that were new so far


class HistoryCourse(Struct):
    """A replay under way: where it is in each partition, and where it ends."""

    at: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]
    stored: dict[TopicPartition, int]
    resumed: bool = False  # an earlier command has begun it
    stored_before: int = 0  # rows that earlier commands of this replay have stored

    @property
    def left(self) -> int:
        """How many offsets are still to be looked at."""
        return sum(max(0, end - self.at[tp]) for tp, end in self.ends.items())

    @property
    def unfinished(self) -> dict[TopicPartition, int]:
        """Where the replay is in each partition that is not at its end."""
        return {tp: at for tp, at in self.at.items() if at < self.ends[tp]}

    def marks(self) -> dict[TopicPartition, tuple[int, str]]:
        """What is to be committed."""
        return {
            tp: (at, msgspec.json.encode(HistoryMark(self.ends[tp], self.stored[tp])).decode())
            for tp, at in self.at.items()
        }


Marks = Mapping[TopicPartition, tuple[int, HistoryMark]]
_mark = msgspec.json.Decoder(HistoryMark).decode


def marks_of(committed: Mapping[TopicPartition, OffsetAndMetadata]) -> Marks:
    """The offsets that a replay has committed; those of another tool are left out."""
    found = {}
    for tp, held in committed.items():
        try:
            found[tp] = (held.offset, _mark(held.metadata or ""))
        except (msgspec.MsgspecError, ValueError):
            continue
    return found


def history_course(
    ranges: Mapping[TopicPartition, PartitionRange],
    held: Mapping[TopicPartition, PartitionRange],
    before: Marks,
    *,
    again: bool,
) -> HistoryCourse:
    """Where a replay begins and ends. `ranges`: what it was asked for; `held`: what Kafka has; `before`: what an
    earlier command has committed: a replay that is not done goes on to its own end, one that is done takes what has
    come since. `again`: leave that alone, and begin with the first record.
    """
    known = {} if again else {tp: mark for tp, mark in before.items() if tp in held}
    if any(at < mark.end for at, mark in known.values()):
        at = {tp: min(max(offset, held[tp].begin), held[tp].end) for tp, (offset, _) in known.items()}
        ends = {tp: max(at[tp], min(mark.end, held[tp].end)) for tp, (_, mark) in known.items()}
        stored = {tp: mark.stored for tp, (_, mark) in known.items()}
        return HistoryCourse(at, ends, stored, True, sum(stored.values()))
    at = {tp: min(max(one.begin, known[tp][0]) if tp in known else one.begin, one.end) for tp, one in ranges.items()}
    return HistoryCourse(at, {tp: one.end for tp, one in ranges.items()}, dict.fromkeys(ranges, 0))
