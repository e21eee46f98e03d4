"""The thread that talks to Kafka: connects, polls, commits, rebalances; waits out an outage at each step."""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import structlog
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.types import TP
from mode import Service
from mode.threads import MethodQueue

from app.kafka.close_clients import close_consumer
from app.kafka.sync_limit import limit_sync
from app.stream.fetcher import pace_fetches, take_ready
from app.stream.offset_thread import RETRY_SECONDS, OffsetThread

log = structlog.get_logger()
T = TypeVar("T")

# How long Kafka may hold back its answer to a fetch that finds nothing new. It answers one request of a connection at a
# time: a rebalance, which asks for offsets there, waits so long for each answer. Faust has 1.5 s.
FETCH_WAIT_MS = 200
# What may wait for Kafka at the same time: a poll, a commit, a recovery, the watchdog. Faust has two.
CALLS_AT_ONCE = 4


class ConsumerThread(OffsetThread):
    """Faust's, which ends the process at the first failure of nearly every step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._polls = {}
        super().__init__(*args, **kwargs)

    # -- start and stop

    async def on_start(self) -> None:
        """Connect, for as long as it takes; a stop ends the waiting."""
        self.time_started = time.monotonic()
        while not self.should_stop:
            consumer = self._create_consumer(loop=self.thread_loop)
            starting = asyncio.create_task(consumer.start())
            stopping = asyncio.create_task(self._stopped.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if starting.done() and starting.exception() is None:
                if self.transport.lease is not None:
                    self.transport.lease.follow(consumer._coordinator)
                limit_sync(consumer._coordinator)
                pace_fetches(consumer._fetcher)
                self._consumer = consumer
                return
            starting.cancel()
            await close_consumer(consumer)
            if starting.done() and not starting.cancelled():
                error = starting.exception()
                if not isinstance(error, KafkaError | OSError | TimeoutError):
                    raise error or AssertionError
                log.warning("waiting_for_kafka", broker=str(self.transport.url), error=repr(error))
                await self.sleep(RETRY_SECONDS)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        consumer._isolation_level = "read_committed"  # what a transaction has taken back is no data
        return consumer

    # -- rebalance

    _rebalance_failure: BaseException | None = None

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let what runs end, and forget it; a poll under way ends now, or it would wait for the next assignment."""
        for poll in self._polls:
            self._polls[poll] = poll.cancel()
        await self._or_crash(super().on_partitions_revoked(revoked))

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Changelogs are recovery's to read, with a client of its own; this one would fetch them, and keep it."""
        changelogs = self.app.tables.changelog_topics
        self._ensure_consumer().pause(*(TopicPartition(*tp) for tp in assigned if tp.topic in changelogs))
        await self._or_crash(super().on_partitions_assigned(assigned, generation_id))

    async def _or_crash(self, step: Coroutine[Any, Any, None]) -> None:
        """aiokafka logs what fails here and goes on, with a worker that does nothing; so _watch_group raises it."""
        task = asyncio.ensure_future(step)
        try:
            await task
        finally:
            if task.done() and not task.cancelled():
                self._rebalance_failure = task.exception()

    async def on_thread_stop(self) -> None:
        """Drop the calls nobody has begun, end those under way, leave the group."""
        queue = self.method_queue._queue
        while not queue.empty():
            promise = queue.get_nowait().promise
            self.parent_loop.call_soon_threadsafe(promise.cancel)
        await self.method_queue.stop()
        if self._consumer is not None:
            await close_consumer(self._consumer)

    @property
    def method_queue(self) -> MethodQueue:
        """What other threads ask of this one; one call that waits for Kafka must not keep the others waiting."""
        if self._method_queue is None:  # type: ignore[has-type]
            self._method_queue = MethodQueue(num_workers=CALLS_AT_ONCE, loop=self.thread_loop, beacon=self.beacon)
        return self._method_queue

    @Service.task  # type: ignore[untyped-decorator]
    async def _watch_group(self) -> None:
        """At an error it does not know, aiokafka takes no part in the group until somebody asks; Faust never does."""
        while not self.should_stop:
            await self.sleep(RETRY_SECONDS)
            if self._rebalance_failure is not None:
                raise self._rebalance_failure
            coordinator = self._ensure_consumer()._coordinator
            try:
                coordinator.check_errors()
            except KafkaError as error:
                if coordinator._coordination_task.done():
                    raise  # a bug: it does not begin again
                log.error("kafka_group_error", group=coordinator.group_id, error=repr(error), next="joining again")
                coordinator.request_rejoin()

    # -- commit

    async def _commit(self, offsets: Mapping[TP, OffsetAndMetadata]) -> bool:
        """Commit; False when Kafka refuses. The next round tries again, or the next owner does the work again."""
        consumer = self._ensure_consumer()
        ours = self.assignment()
        wanted = {TopicPartition(tp.topic, tp.partition): offset for tp, offset in offsets.items() if tp in ours}
        try:
            await consumer.commit(wanted)
        except (CommitFailedError, IllegalStateError):  # a rebalance was quicker
            return False
        except KafkaError as error:
            log.warning("kafka_commit_refused", error=repr(error), next="tried again with the next commit")
            return False
        return True

    # -- records

    _polls: dict[asyncio.Task[Any], bool]  # who waits for records, and whether a rebalance has ended that

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None
    ) -> Any:
        if self.app.rebalancing:
            return {}
        if self.consumer.flow_active and max_records and not consumer._closed:
            ready = take_ready(consumer._fetcher, self.consumer.limits.topic, active_partitions, max_records)
            if ready:
                return ready
        poll = asyncio.current_task()
        assert poll is not None
        self._polls[poll] = False
        try:
            return await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        except asyncio.CancelledError:  # where it waits, so nothing is taken
            if not self._polls[poll] or poll.uncancel():
                raise
            return {}
        except ConsumerStoppedError:
            raise
        except KafkaError as error:  # of the group, or of a partition: the client has noted it, and goes on
            del self._polls[poll]
            log.warning("kafka_fetch_failed", error=repr(error), next="fetching again")
            await asyncio.sleep(RETRY_SECONDS)
            return {}
        finally:
            self._polls.pop(poll, None)
