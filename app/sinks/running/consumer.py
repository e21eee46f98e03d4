"""The consumer group of a sink: the input topic in; records by partition, commits and rebalances out.

A rebalance takes two steps. When partitions are revoked, aiokafka awaits `giving_up`, in which the runner ends the
running flush. After the rebalance the runner determines where each partition resumes, and calls `settle`. In between
`settled` is false: nothing is read or written.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.structs import OffsetAndMetadata

from app.core.state.partition_log import Verdict
from app.kafka.access import access, start
from app.kafka.close_clients import close_consumer
from app.kafka.fetch.fetcher import FETCH_WAIT_MS, count_as_polled, log_ends, pace_fetches, poll
from app.kafka.group_coordinator import committed_offsets, coordinated, coordinator_of, limit_sync
from app.kafka.session_lease import SessionLease
from app.kafka.topic_ids import TopicIds
from app.settings import Settings

log = structlog.get_logger()

FETCH_BYTES = 1 << 20  # prefetched of each partition, compressed
TAKE_BYTES = 8 << 20  # of the values of records of one read, uncompressed
METADATA_MS = 10_000  # time until a topic created after the start is found
COMMIT_SECONDS = 4.0
ASK_SECONDS = 15.0
LOST_END = "the log was truncated or recreated"
MAX_POLL_MS = 3600 * 1000  # `stay` counts as a poll, as nothing is read in an outage of the destination


class LogPlaces(NamedTuple):
    """The start, the end and the committed offset of partitions."""

    identity: str = ""  # id of the topic
    starts: Mapping[int, int] = {}
    ends: Mapping[int, int] = {}  # including open transactions
    begins: Mapping[int, int] = {}  # first offset of a sink without a commit
    committed: Mapping[int, int] = {}
    of_other_logs: Mapping[int, str] = {}  # partitions whose commit is of an earlier log, and why
    at_ends: bool = False  # `begins` are the ends of the logs


GivingUp = Callable[[bool], Awaitable[None]]  # whether settled before -> once no call is running


async def _nothing_under_way(were_settled: bool) -> None:
    """The default before a runner is set."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Callbacks of aiokafka at a rebalance."""

    def __init__(self, revoked: Callable[[], Awaitable[None]], assigned: Callable[[], None]) -> None:
        self._revoked, self._assigned = revoked, assigned

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._revoked()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._assigned()


class SinkConsumer:
    """One member of the group `iot-<app>-sink-<name>`."""

    def __init__(self, settings: Settings, name: str, stop: asyncio.Event) -> None:
        """`stop` ends the waits of `lease`. Raises ValueError for invalid TLS files of Kafka."""
        self._settings, self._access = settings, access(settings)
        self.giving_up: GivingUp = _nothing_under_way
        self._topic, self.group = settings.kafka_topic, f"{settings.group_id}-sink-{name}"
        self._client_id = f"{settings.sink_client_id}-{name}"
        self._consumer: Any = None
        self._ids, self._identity = TopicIds(self._access), ""
        self.lease = SessionLease(settings.kafka_session_timeout, stop)
        self.epoch = 0  # counts changes of the assignment
        self._settled: int | None = None  # the epoch of the last `settle`
        self._joined = False

    @property
    def joined(self) -> bool:
        """Whether this member has its partitions, and no rebalance is in progress."""
        return self._joined

    @property
    def answers(self) -> bool:
        """Whether this member is in the group, and Kafka has confirmed it within the session timeout."""
        return self._joined and self.lease.valid()

    @property
    def settled(self) -> bool:
        """Whether this member has its partitions, and has sought to where they resume."""
        return self._joined and self._settled == self.epoch

    async def connect(self) -> None:
        """Begin to join the group, unless connected. Raises KAFKA_ERRORS."""
        if self._consumer is None:
            self._consumer = await self._subscribe()

    @property
    def assigned(self) -> frozenset[int]:
        """The assigned partitions."""
        return frozenset(tp.partition for tp in self._consumer.assignment()) if self._consumer else frozenset()

    def stay(self) -> None:
        """Stay in the group although nothing is read now; to be called more often than every MAX_POLL_MS."""
        if self._consumer is not None:
            count_as_polled(self._consumer)

    async def ends(self) -> Mapping[int, int]:
        """The current ends of the logs of the assigned partitions. Raises KAFKA_ERRORS."""
        consumer = self._consumer
        tps = list(consumer.assignment()) if consumer else []
        found = await consumer.end_offsets(tps) if tps else {}
        return {tp.partition: offset for tp, offset in found.items()}

    async def starts(self) -> Mapping[int, int]:
        """The current starts of these logs. Raises KAFKA_ERRORS."""
        consumer = self._consumer
        tps = list(consumer.assignment()) if consumer else []
        found = await consumer.beginning_offsets(tps) if tps else {}
        return {tp.partition: offset for tp, offset in found.items()}

    async def take(self, most: int, seconds: float) -> Mapping[int, Sequence[Any]]:
        """Up to `most` records by partition, or TAKE_BYTES, in offset order; empty after `seconds` without records, and
        after a rebalance meanwhile. Raises KAFKA_ERRORS: the next `connect` replaces a failed consumer.
        """
        epoch = self.epoch
        try:
            taken = await poll(self._consumer, self._topic, most, TAKE_BYTES, seconds)
        except KafkaError:
            await self._drop()
            raise
        return {tp.partition: records for tp, records in taken.items()} if epoch == self.epoch else {}

    async def identity(self) -> str:
        """The id of the topic. Raises KAFKA_ERRORS, UnknownTopicOrPartitionError when there is no such topic."""
        topic = (await self._ids.ask([self._topic])).get(self._topic)
        if topic is None:  # a broker that has just started answers this too
            raise UnknownTopicOrPartitionError(self._topic)
        return topic.identity

    async def notice_topic(self) -> None:
        """Unsettle if the topic was recreated: when the new topic has more records than were read of the old one, Kafka
        reports no error. Raises KAFKA_ERRORS.
        """
        epoch = self.epoch
        if self.settled and await self.identity() != self._identity and epoch == self.epoch:
            self.unsettle()

    async def positions(self, partitions: Collection[int]) -> LogPlaces:
        """Where each of these partitions may resume. Raises KAFKA_ERRORS.

        The metadata of a commit has the id of its topic: a commit of a deleted and recreated topic is ignored, and so
        is a commit beyond the end of a truncated log. Such a log is read from its start, also with IOT_SINK_START
        `latest`.
        """
        consumer, tps = self._consumer, [TopicPartition(self._topic, number) for number in partitions]
        if consumer is None or not tps:
            return LogPlaces()
        async with asyncio.timeout(ASK_SECONDS):  # aiokafka has no timeout here
            self._identity = await self.identity()
            found = await coordinated(lambda: committed_offsets(consumer, tps))
            ends = {tp.partition: end for tp, end in (await log_ends(consumer, tps)).items()}  # later than the commits
            starts = {tp.partition: start for tp, start in (await consumer.beginning_offsets(tps)).items()}
        committed, of_other_logs = dict[int, int](), dict[int, str]()
        for tp, at in found.items():
            if at.offset < 0:
                continue
            if at.metadata not in (None, "", self._identity):  # "": a manual commit
                of_other_logs[tp.partition] = Verdict.OTHER.value
            elif at.offset > ends[tp.partition]:
                of_other_logs[tp.partition] = LOST_END
            else:
                committed[tp.partition] = at.offset
        latest = self._settings.sink_start == "latest"
        return LogPlaces(self._identity, starts, ends, ends if latest else starts, committed, of_other_logs, latest)

    def seek(self, offsets: Mapping[int, int]) -> None:
        """Resume at these offsets. Raises aiokafka's IllegalStateError, a KafkaError, for an unassigned partition."""
        for number, offset in offsets.items():
            self._consumer.seek(TopicPartition(self._topic, number), offset)

    def settle(self, epoch: int, offsets: Mapping[int, int]) -> None:
        """Seek to these offsets and be settled; does nothing if the assignment has changed since `epoch`."""
        if epoch == self.epoch and self._consumer is not None:
            self.seek(offsets)
            self._settled = epoch

    def unsettle(self) -> None:
        """Require a new `settle` before anything is read."""
        self.epoch += 1

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets. Raises KAFKA_ERRORS, also when the partitions are no longer assigned to this member, and when
        Kafka does not answer within COMMIT_SECONDS, as aiokafka has no timeout.
        """
        if self._consumer is None or not offsets:
            return
        async with asyncio.timeout(COMMIT_SECONDS):
            positions = {number: OffsetAndMetadata(offset, self._identity) for number, offset in offsets.items()}
            await self._consumer.commit({TopicPartition(self._topic, number): at for number, at in positions.items()})

    async def close(self) -> None:
        """Leave the group."""
        await self._drop()
        await self._ids.close()

    async def _drop(self) -> None:
        consumer, self._consumer, self._joined = self._consumer, None, False
        self.epoch += 1
        if consumer is not None:
            await close_consumer(consumer)

    async def _subscribe(self) -> Any:
        timeout_ms = int(self._settings.kafka_session_timeout * 1000)
        consumer = AIOKafkaConsumer(
            **self._access.options,
            group_id=self.group,
            client_id=self._client_id,
            group_instance_id=self._settings.sink_instance_id and f"{self._settings.sink_instance_id}-{self.group}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=timeout_ms,
            heartbeat_interval_ms=min(3_000, timeout_ms // 3),
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            metadata_max_age_ms=METADATA_MS,
            max_poll_interval_ms=MAX_POLL_MS,
            # A member that keeps a partition keeps its buffer. The class attributes store the assignment of one group.
            partition_assignment_strategy=(type("Sticky", (StickyPartitionAssignor,), {}),),
        )
        try:
            await start(consumer, self._access)
            coordinator = coordinator_of(consumer)
            self.lease.follow(coordinator)  # before the first join
            limit_sync(coordinator)
            pace_fetches(consumer)
            consumer.subscribe([self._topic], listener=_Listener(self._revoked, self._assigned))
        except BaseException:
            await close_consumer(consumer)
            raise
        return consumer

    async def _revoked(self) -> None:
        were_settled, self._joined = self.settled, False
        self.epoch += 1
        await self.giving_up(were_settled)

    def _assigned(self) -> None:
        self._joined = True
        self.epoch += 1
        log.info("sink_partitions", group=self.group, partitions=sorted(self.assigned))
