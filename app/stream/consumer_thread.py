"""The thread that talks to Kafka: connects, polls, commits, rebalances; waits out an outage at each step."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

import structlog
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service
from mode.threads import MethodQueue
from tenacity import wait_fixed

from app.errors import TransientError
from app.kafka.access import kafka_away
from app.kafka.close_clients import close_consumer
from app.kafka.fetch import fetcher
from app.kafka.group_coordinator import coordinator_of, join_after_error, limit_sync
from app.runtime.interrupt import Interrupt
from app.runtime.retry import retry
from app.stream.offsets import RETRY_SECONDS, Offsets
from app.stream.poll_fetch import PollFetch
from app.stream.polls import Polls

log = structlog.get_logger()

# What may wait for Kafka at the same time: a poll, a commit, a recovery, the watchdog. Faust has two.
CALLS_AT_ONCE = 4


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's thread, which ends the process at the first failure of nearly every step, made to wait instead. Its parts
    are `offsets`, `polls` and PollFetch, which does Faust's `_fetch_records`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.polls, self.offsets = Polls(), Offsets(self, self.app)
        self._fetch_records = PollFetch(self, self.polls.waiting, super()._fetch_records).records
        self._rebalance_failure: BaseException | None = None

    # -- start and stop

    async def on_start(self) -> None:
        """Connect, for as long as it takes; a stop ends the waiting."""
        self.time_started, stop = time.monotonic(), Interrupt(self._stopped)

        def failed(failures: int, error: BaseException) -> None:
            log.warning("waiting_for_kafka", broker=str(self.transport.url), error=repr(error))

        with contextlib.suppress(TransientError):  # interrupted
            await retry(lambda: stop.race(self._connect()), kafka_away, wait_fixed(RETRY_SECONDS), failed, stop.sleep)

    async def _connect(self) -> None:
        """Start a client, which is closed again unless it connects. Raises KAFKA_ERRORS while Kafka is away."""
        consumer = self._create_consumer(loop=self.thread_loop)
        try:
            await consumer.start()
        except BaseException:
            await close_consumer(consumer)
            raise
        if self.transport.lease is not None:
            self.transport.lease.follow(coordinator_of(consumer))
        limit_sync(coordinator_of(consumer))
        fetcher.pace_fetches(consumer)
        self._consumer = consumer

    @property
    def client(self) -> Any:
        """aiokafka's consumer; None before the consumer has started."""
        return self._consumer

    def connected(self) -> Any:
        """aiokafka's consumer. Raises Faust's ConsumerNotStarted before the consumer has started."""
        return self._ensure_consumer()

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        fetcher.set_up(consumer)
        return consumer

    # -- rebalance

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let running batches end, and forget the rest; a poll under way ends now, or the poll would wait for the
        next assignment.
        """
        self.polls.end()
        await self._or_crash(super().on_partitions_revoked(revoked))

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Pause the changelogs: recovery reads them with a client of its own; this client would fetch and keep them."""
        changelogs = self.app.tables.changelog_topics
        self._ensure_consumer().pause(*(TopicPartition(*tp) for tp in assigned if tp.topic in changelogs))
        await self._or_crash(super().on_partitions_assigned(assigned, generation_id))

    async def _or_crash(self, step: Coroutine[Any, Any, None]) -> None:
        """aiokafka logs a failure here and goes on, with a worker that does nothing; so _watch_group raises it."""
        task = asyncio.ensure_future(step)
        try:
            await task
        finally:
            if task.done() and not task.cancelled():
                self._rebalance_failure = task.exception()

    async def on_thread_stop(self) -> None:
        """Drop the calls that nobody has begun, end the calls under way, leave the group."""
        queue = self.method_queue._queue
        while not queue.empty():
            promise = queue.get_nowait().promise
            self.parent_loop.call_soon_threadsafe(promise.cancel)
        await self.method_queue.stop()
        if self._consumer is not None:
            await close_consumer(self._consumer)

    @property
    def method_queue(self) -> MethodQueue:
        """The calls of other threads to this thread; a call that waits for Kafka must not keep the others waiting."""
        if self._method_queue is None:  # type: ignore[has-type]  # set by a class without types
            self._method_queue = MethodQueue(num_workers=CALLS_AT_ONCE, loop=self.thread_loop, beacon=self.beacon)
        return self._method_queue

    @Service.task
    async def _watch_group(self) -> None:
        """After an unknown error aiokafka takes no part in the group until somebody asks; Faust never asks."""
        while not self.should_stop:
            await self.sleep(RETRY_SECONDS)
            if self._rebalance_failure is not None:
                raise self._rebalance_failure
            join_after_error(self._ensure_consumer())

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

    # -- offsets that Faust asks for

    def highwater(self, tp: TP) -> int | None:
        """Where the log ended when the partition was fetched last (Offsets.highwater)."""
        return self.offsets.highwater(tp)

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """First offsets; waits out an outage (Faust's recovery asks)."""
        found: Mapping[TP, int] = await self.call_thread(self._earliest_offsets, partitions)
        return found

    async def _earliest_offsets(self, partitions: Iterable[TP]) -> Mapping[TP, int]:
        client = self.connected()
        return await self.offsets.insist(lambda: client.beginning_offsets(partitions))

    async def _highwaters(self, partitions: Iterable[TP]) -> Mapping[TP, int]:
        """End offsets; waits out an outage (Faust's recovery asks)."""
        client = self.connected()
        return await self.offsets.insist(lambda: client.end_offsets(partitions))

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing. Faust looks here for stuck partitions, and asserts that each has a position. A partition whose
        records retention has deleted has no position until one is found again, which ended the worker.
        app/worker/watchdog.py looks instead.
        """
