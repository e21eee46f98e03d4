"""All that a worker talks to, and how the real adapters get to it instead of aiokafka's and asyncpg's."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from unittest import mock

from app.kafka import dead_letter_reader, producer
from app.postgres.store import session
from tests.simulation.database import Connection, Database
from tests.simulation.group import Group
from tests.simulation.kafka import Kafka, ProducerClient, TailClient
from tests.simulation.life import LIFE, Life
from tests.simulation.world import World


class Servers:
    """All that a worker talks to."""

    def __init__(self, world: World, partitions: int) -> None:
        self.world = world
        self.kafka = Kafka(world, partitions)
        self.group = Group(world, self.kafka)
        self.database = Database(world)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """The adapters' clients reach these servers, and the path's clock is the virtual one."""
        world = self.world

        def sender(**_: object) -> ProducerClient:
            return ProducerClient(self.kafka, _life())

        def reader(**_: object) -> TailClient:
            return TailClient(self.kafka, _life())

        async def connect(settings: object, name: str) -> Connection:
            return await self.database.connect(_life())

        async def nobody(*_: object, **__: object) -> None:
            raise ConnectionRefusedError("nobody answers")

        clock = SimpleNamespace(time=world.wall, monotonic=world.loop.time, perf_counter=world.loop.time)
        with (
            mock.patch.object(producer, "AIOKafkaProducer", sender),
            mock.patch.object(dead_letter_reader, "AIOKafkaConsumer", reader),
            mock.patch.object(session, "connect", connect),
            mock.patch("app.kafka.access.dial", nobody),
            mock.patch("app.pipeline.pipeline.time", clock),
            mock.patch("app.stream.batch_reader.time", clock),
            mock.patch("app.worker.watchdog.time", clock),
            mock.patch("app.worker.inactivity_task.time", clock),
        ):
            yield


def _life() -> Life:
    life = LIFE.get()
    assert life is not None
    return life
