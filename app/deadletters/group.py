"""How far a replay has come, in the offsets of a group of its own: kept by Kafka, and found again by the same command.

Each offset has with it, as its metadata, where the replay ends and which times it was asked for: whoever goes on with a
replay that was ended in the middle puts back exactly what the first would have.
"""

from collections.abc import Mapping

import msgspec
from aiokafka import TopicPartition
from msgspec import Struct

from app.deadletters.selection import Chooser, Selection
from app.kafka.access import Access
from app.kafka.group_state import offsets_of_group
from app.kafka.reading.record_log import RecordLog


class ReplayMark(Struct, frozen=True):
    """The metadata of one partition's offset."""

    end: int  # the replay's, in this partition
    since_ms: int | None = None
    until_ms: int | None = None
    done: int = 0  # letters put back so far


Marks = Mapping[TopicPartition, tuple[int, ReplayMark]]
_mark = msgspec.json.Decoder(ReplayMark).decode


class Course(Struct):
    """A replay under way: where it is in each partition, and where it ends."""

    chooser: Chooser
    at: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]
    done: dict[TopicPartition, int]
    resumed: bool = False  # an earlier command has begun it
    was_done: int = 0  # letters that earlier commands of this replay have put back

    @property
    def left(self) -> int:
        """How many records are still to be looked at."""
        return sum(max(0, end - self.at[tp]) for tp, end in self.ends.items())

    def marks(self) -> dict[TopicPartition, tuple[int, str]]:
        """What is to be committed."""
        since, until = self.chooser.since_ms, self.chooser.until_ms
        return {
            tp: (offset, msgspec.json.encode(ReplayMark(self.ends[tp], since, until, self.done[tp])).decode())
            for tp, offset in self.at.items()
        }


async def committed(kafka: Access, group: str) -> Marks:
    """The offsets of a group that a replay has committed. Raises TransientError when Kafka is away."""
    marks = {}
    for tp, held in (await offsets_of_group(kafka, group)).items():
        try:
            marks[tp] = (held.offset, _mark(held.metadata or ""))
        except (msgspec.MsgspecError, ValueError):
            continue  # committed by another tool
    return marks


async def course(
    log: RecordLog, selection: Selection, times: tuple[int | None, int | None], before: Marks, *, again: bool
) -> Course:
    """Where a replay of `selection` begins and ends. `times`: since and until, milliseconds since 1970. `before`: what
    an earlier command has committed; `again`: leave that alone, and begin at the first letter. Raises KAFKA_ERRORS.
    """
    starts, ends = await log.starts(), await log.ends()
    tps = [tp for tp in log.tps if selection.wants_partition(tp.partition)]
    unfinished = [] if again else [tp for tp in tps if tp in before and before[tp][0] < before[tp][1].end]
    if unfinished:
        mark = before[unfinished[0]][1]
        at = {tp: min(max(before[tp][0], starts[tp]), ends[tp]) for tp in tps if tp in before}
        chooser = Chooser(selection, mark.since_ms, mark.until_ms)
        until = {tp: max(at[tp], min(before[tp][1].end, ends[tp])) for tp in at}
        done = {tp: before[tp][1].done for tp in at}
        return Course(chooser, at, until, done, True, sum(done.values()))
    since_ms, until_ms = times
    begin = starts if since_ms is None else await log.since(since_ms, ends)
    at, until = {}, {}
    for tp in tps:
        first = max(begin[tp], selection.first(tp.partition), starts[tp])
        if tp in before and not again:
            first = max(first, before[tp][0])
        at[tp] = min(first, ends[tp])
        until[tp] = max(at[tp], selection.end(tp.partition, ends[tp]))
    return Course(Chooser(selection, since_ms, until_ms), at, until, dict.fromkeys(tps, 0))
