"""The Faust app of a worker: resources are open before the consumer starts, and closed after it has stopped."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from app.errors import TransientError
from app.kafka import topics
from app.kafka.access import Access
from app.kafka.producer import Producer
from app.ops import logs
from app.ops.health import HealthServer
from app.postgres.operator_advice import Advice
from app.postgres.store.store import TimescaleStore
from app.runtime import allocator
from app.runtime.interrupt import Interrupt
from app.runtime.tracing.start import STOP_SECONDS
from app.runtime.tracing.tracing import Tracing
from app.settings import Settings
from app.stream.faust_config import RoundsApp
from app.tables import state_directory

log = structlog.get_logger()

TOPICS_SECONDS = 2.0  # between two looks for topics that are missing


@dataclass(frozen=True, slots=True)
class Resources:
    """What is open while the worker runs; the app closes it."""

    settings: Settings
    kafka: Access
    store: TimescaleStore
    producers: tuple[Producer, ...]
    health: HealthServer
    advice: Advice
    tracing: Tracing


class WorkerApp(RoundsApp):
    """The Faust app of a worker. Give the app its `resources` before the app starts."""

    resources: Resources

    def before_start(self) -> None:
        """Prepare the state directory and take the metrics port: what can be wrong on this machine is reported before
        anything runs. Raises MachineError.
        """
        state_directory.prepare(self.resources.settings.state_dir)
        self.resources.health.bind()

    async def on_start(self) -> None:
        """Set up logs, memory, store and health page, then wait until all topics are there, however long that takes.
        Faust sets up logging on its own; ours comes after.
        """
        settings, health = self.resources.settings, self.resources.health
        logs.configure(settings)
        allocator.give_large_buffers_back()
        allocator.look_for_cycles_seldom()
        await super().on_start()
        await self.resources.store.start()
        await health.start()
        log.info("worker_starting", group=settings.group_id, topic=settings.kafka_topic, metrics_port=health.port)
        await self._topics_exist(settings)

    async def _topics_exist(self, settings: Settings) -> None:
        """Faust would wait for a missing topic without a word, or take partitions without their state."""
        until_stopped, names = Interrupt(self._stopped), [topic.name for topic in topics.wanted(settings)]
        while not self.should_stop:
            try:
                there = await until_stopped.race(topics.existing(self.resources.kafka, names))
            except TransientError as error:
                if self.should_stop:
                    return
                log.warning("waiting_for_kafka", broker=settings.kafka_broker, error=str(error))
            else:
                if self._agree(there) and len(there) == len(names):
                    self._compare(settings.kafka_partitions, there[settings.kafka_topic])
                    return
                if missing := [name for name in names if name not in there]:
                    log.warning("waiting_for_topics", missing=missing, cure="iot-stream topics create")
            await self.sleep(TOPICS_SECONDS)

    def _agree(self, there: Mapping[str, int]) -> bool:
        cure = topics.disagreement(there)
        if cure is None:
            self.resources.advice.settled("topics")
        else:
            self.resources.advice.call("topics", cure)
        return cure is None

    def _compare(self, wanted: int, there: int) -> None:
        """The count that all topics have is what counts: the setting is for topics that are made."""
        if wanted != there:
            log.warning(
                "partitions_differ_from_settings", settings=wanted, topics=there, cure=f"IOT_KAFKA_PARTITIONS={there}"
            )

    async def on_stop(self) -> None:
        """Close what is open, in order; Faust drains and commits first (BatchConsumer.wait_empty)."""
        await super().on_stop()
        for producer in self.resources.producers:
            await producer.stop()
        await self.resources.store.stop(1.0)  # writes that still run have had their time, and nobody waits for them
        await self.resources.health.stop()
        if self.resources.tracing.enabled:
            await asyncio.to_thread(self.resources.tracing.stop, STOP_SECONDS)
        log.info("worker_stopped")
