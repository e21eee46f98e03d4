"""What a worker runs: the agent that does the path, and the tasks beside it, each until the app stops."""

import asyncio
import time
from typing import Any

from app.kafka.alert_outbox import KafkaOutbox
from app.kafka.messages import key_partition
from app.postgres.circuit_breaker import BreakerState
from app.postgres.queries.config_feed import ConfigFeed
from app.settings import Settings
from app.stream.batch_reader import BatchTopic, FaustSource
from app.stream.log_progress import log_positions
from app.worker import gauges
from app.worker.backends import Backends
from app.worker.config_task import ConfigTask
from app.worker.late_records import known_cause
from app.worker.lifecycle import WorkerApp
from app.worker.parts import WorkerParts
from app.worker.schema_task import wait_for_schema


class WorkerTasks:
    """Each public coroutine is one task of the Faust app."""

    def __init__(self, settings: Settings, app: WorkerApp, backends: Backends, parts: WorkerParts) -> None:
        self._settings, self._app, self._backends, self._parts = settings, app, backends, parts
        self.rules_loaded, self.schema_fits = asyncio.Event(), asyncio.Event()

    def register(self) -> None:
        """Give the agent and the tasks to the app, which must have its transport by then: an agent would build stock
        Faust's.
        """
        app, settings = self._app, self._settings
        topic = BatchTopic(app, topics=[settings.kafka_topic], partitions=settings.kafka_partitions)
        app.agent(topic, name="ingest", concurrency=1)(self.ingest)
        for task in (self.follow_rules, self.claim_inactivity, self.check_schema, self.watch, self.watch_logs):
            app.task(task)
        app.timer(1.0)(self.refresh_gauges)

    async def ingest(self, stream: Any) -> None:
        """Take batches from Kafka and do the path with each (app.pipeline.pipeline), once the table fits. Raises what
        the path raises, with all offsets un-acked.
        """
        await self.schema_fits.wait()
        await self._parts.pipeline.run(FaustSource(stream, self._app.consumer.reader))

    async def follow_rules(self) -> None:
        """Keep the rules in effect equal to user_configs."""
        answers = KafkaOutbox(self._backends.best_effort, self._settings.kafka_alerts_topic)
        feed = ConfigFeed(self._settings, self._backends.advice)
        await ConfigTask(feed, self._parts.rules, answers, self._has_messages_of).follow(self.rules_loaded)

    def _has_messages_of(self, user_id: str) -> bool:
        """Whether this worker has the partition of the user's own messages."""
        partitions = self._parts.log_watch.partitions or self._settings.kafka_partitions
        return key_partition(user_id.encode(), partitions) in log_positions(self._app.consumer)

    async def claim_inactivity(self) -> None:
        """Claim the inactivity of devices that nothing comes from any more."""
        await self.schema_fits.wait()
        await self._parts.inactivity.run(self._settings.offline_poll)

    async def check_schema(self) -> None:
        """Let nothing start before the table has the columns of the schema."""
        await self.rules_loaded.wait()  # the database answers
        if await wait_for_schema(self._settings, self._app):
            self.schema_fits.set()

    async def watch(self) -> None:
        """End the process when a partition is stuck: raises StuckOffsetError."""
        await self.schema_fits.wait()
        await self._parts.watchdog.watch(self._app.consumer)

    async def watch_logs(self) -> None:
        """See that the topics are still the topics that the states are about."""
        await self._parts.log_watch.watch(self._app.consumer)

    async def refresh_gauges(self) -> None:
        """Refresh, once a second, the gauges that no batch refreshes, and write the log lines that are due."""
        parts = self._parts
        gauges.refresh(self._app.consumer, parts.processor, parts.sweeper, parts.limit)
        if parts.device_states is not None:
            parts.device_states.show()
        parts.rejections.report()
        gauges.set_lag(parts.watchdog.lag)
        self._look_at_waiting()

    def _look_at_waiting(self) -> None:
        """How long records wait; not in a rebalance, when nobody's do."""
        consumer, parts, backends = self._app.consumer, self._parts, self._backends
        if not consumer.flow_active:
            return
        flight, clock = consumer.flight, time.monotonic()
        waiting = parts.watchdog.times.now(flight.epoch, flight.done_offsets(), flight.heads(), clock, time.time())
        gauges.set_waiting(waiting)
        is_open = backends.store.breaker_state is BreakerState.OPEN
        held = {*backends.store.advice, *backends.producer.writes.held}
        parts.late.look(waiting, known_cause(is_open, backends.lease.valid(), held), clock)
