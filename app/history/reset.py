"""Committed offsets set to another place: in, where to; out, a move of each partition, and the moves committed.

An offset is committed with the signature of the topic's log, as a worker does: so it counts for the log that it was
meant for, and for no topic that has the name later.
"""

from collections.abc import Mapping, Sequence

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, GroupAuthorizationFailedError, TopicAuthorizationFailedError
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP
from msgspec import Struct
from msgspec.structs import replace

from app.core.state.partition_log import PartitionLog, signature
from app.errors import PermanentError, TransientError
from app.kafka.access import KAFKA_ERRORS, Access
from app.kafka.reading.offset_ranges import PartError, PartitionRange, PartOfTopic
from app.kafka.reading.record_log import Offsets, RecordLog, record_log
from app.kafka.record_times import times_of
from app.kafka.topic_ids import TopicIds

Committed = Mapping[TopicPartition, OffsetAndMetadata]


class OffsetMove(Struct, frozen=True):
    """The offset of one partition: where workers go on as it is, and where they go on after the reset."""

    partition: int
    committed: int | None  # None: nothing is, of this log
    at: int
    to: int
    at_ms: int | None = None  # when the record there was written, milliseconds since 1970; None: there is none yet
    to_ms: int | None = None

    @property
    def again(self) -> int:
        """How many offsets are read again."""
        return max(0, self.at - self.to)

    @property
    def skipped(self) -> int:
        """How many offsets are passed over that no worker has read."""
        return max(0, self.to - self.at)

    @property
    def changes(self) -> bool:
        """Whether another offset is committed than now."""
        return self.committed != self.to


class ResetPlan(Struct, frozen=True):
    """What a reset does to the offsets of a group."""

    topic: str
    signature: str  # of the topic's log
    moves: tuple[OffsetMove, ...]

    @property
    def again(self) -> int:
        """How many offsets are read again."""
        return sum(one.again for one in self.moves)

    @property
    def skipped(self) -> int:
        """How many offsets are passed over that no worker has read."""
        return sum(one.skipped for one in self.moves)


async def plan(kafka: Access, topic: str, committed: Committed, asked: PartOfTopic) -> ResetPlan:
    """What a reset of the `committed` offsets would do: to the offsets of `asked` (one of each partition), else to the
    first record since its begin, else to the first behind its end, else to the first that Kafka holds.

    Raises PartError for a partition or an offset that the topic does not have, TransientError when Kafka is away,
    PermanentError for an unknown topic.
    """
    async with record_log(kafka, topic) as log:
        asked.check(len(log.tps))
        signed = await _signature(kafka, topic)
        starts, ends = await log.starts(), await log.ends()
        targets = await _targets(log, asked, starts, ends)
        moves = []
        for tp in log.tps:
            if asked.wants(tp.partition):
                held, found = PartitionRange(starts[tp], ends[tp]), committed.get(tp)
                moves.append(move(tp.partition, held, found, target(asked, tp.partition, held, targets[tp]), signed))
        return ResetPlan(topic, signed, await _dated(log, moves, ends))


async def carry_out(kafka: Access, group: str, wanted: ResetPlan) -> None:
    """Commit the moves, all or none of them. Raises PermanentError when the group has a member, which Kafka itself
    makes sure of, or when the account may not commit; TransientError when Kafka is away.
    """
    offsets = {
        TopicPartition(wanted.topic, one.partition): (one.to, wanted.signature) for one in wanted.moves if one.changes
    }
    async with record_log(kafka, wanted.topic, group=group) as log:
        try:
            await log.commit(offsets)
        except CommitFailedError as error:
            raise PermanentError(f"a member has joined the group {group}: no offset is set") from error
        except (GroupAuthorizationFailedError, TopicAuthorizationFailedError) as error:
            raise PermanentError(f"Kafka does not let this account commit for the group {group}: {error}") from error


def target(asked: PartOfTopic, partition: int, held: PartitionRange, found: int) -> int:
    """The offset that a partition is set to: the one that was named, which raises PartError outside of `held`, else
    `found`, by time.
    """
    named = asked.range_of(partition)
    if named is None:
        return found
    if not held.begin <= named.first <= held.end:
        what = f"partition {partition} goes from offset {held.begin} to {held.end}"
        raise PartError(f"{what}, so it cannot be set to {named.first}")
    return named.first


def move(partition: int, held: PartitionRange, found: OffsetAndMetadata | None, to: int, signed: str) -> OffsetMove:
    """The move of a partition of which Kafka has `held` to the offset `to`. `found`: what is committed, which counts
    only for the log with the signature `signed`, or without a signature.
    """
    committed = found.offset if found is not None and found.offset >= 0 and found.metadata in ("", signed) else None
    within = committed is not None and held.begin <= committed <= held.end
    return OffsetMove(partition, committed, committed if committed is not None and within else held.begin, to)


async def _targets(log: RecordLog, asked: PartOfTopic, starts: Offsets, ends: Offsets) -> Offsets:
    if asked.since_ms is not None:
        return await log.since(asked.since_ms, ends)
    if asked.until_ms is not None:
        return await log.since(asked.until_ms + 1, ends)
    return starts


async def _signature(kafka: Access, topic: str) -> str:
    ids = TopicIds(kafka)
    try:
        found = await ids.ask([topic])
    except KAFKA_ERRORS as error:
        raise TransientError(f"cannot ask Kafka at {kafka} about {topic}: {error}") from error
    finally:
        await ids.close()
    return signature(PartitionLog(identity=found[topic].identity)) if topic in found else ""


async def _dated(log: RecordLog, moves: Sequence[OffsetMove], ends: Offsets) -> tuple[OffsetMove, ...]:
    """The moves with the times of the records at both ends; at the end of a log there is no record."""
    tps = {tp.partition: TP(tp.topic, tp.partition) for tp in log.tps}
    end = {tp.partition: offset for tp, offset in ends.items()}
    at = await times_of(log.client, {tps[one.partition]: one.at for one in moves if one.at < end[one.partition]})
    to = await times_of(log.client, {tps[one.partition]: one.to for one in moves if one.to < end[one.partition]})
    return tuple(replace(one, at_ms=at.get(tps[one.partition]), to_ms=to.get(tps[one.partition])) for one in moves)
