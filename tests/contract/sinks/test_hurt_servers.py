"""The runner with Redis and InfluxDB, which are killed and frozen at random: each reading is stored once."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from app.sinks.influx.sink import InfluxSink
from app.sinks.redis.sink import RedisSink
from app.sinks.running.clients import SinkKafka
from app.sinks.running.runner import SinkRunner
from tests.sink_servers import InfluxServer, RedisServer, frozen, running
from tests.unit.sinks.running.world import LogConsumer, World

pytestmark = pytest.mark.integration

Place = tuple[int, int]  # partition, offset
STEPS, SECONDS = 25, 60.0


class HurtWorld(World):
    """A log, a real server, and one process at a time that runs a sink between them."""

    def __init__(self, sink: Callable[[str, Any], Any], **settings: Any) -> None:
        self._made = sink
        super().__init__(2, **settings)

    def start(self) -> None:
        self.stop = asyncio.Event()
        self.consumer = LogConsumer(self.settings, self.log, self.stop)
        self.real = self._made("fake", self.settings)
        kafka: Any = self.consumer, self.letters, self.series
        self.runner = SinkRunner(self.settings, self.real, self.stop, SinkKafka(*kafka))
        self.task = asyncio.create_task(self.runner.run())


@asynccontextmanager
async def hurt(world: HurtWorld, server: RedisServer | InfluxServer, seed: int) -> AsyncIterator[None]:
    """Readings arrive while the process, the server and the assignment change; returns when all is committed."""
    chance = random.Random(seed)
    await world.consumer.assign(0, 1)
    try:
        for _ in range(STEPS):
            world.log.append(chance.randrange(2), chance.randrange(1, 60))
            match chance.randrange(8):
                case 0:
                    await world.kill()
                    world.start()
                    await world.consumer.assign(0, 1)
                case 1:
                    await world.consumer.assign(chance.randrange(2))
                case 2:
                    await world.consumer.assign(0, 1)
                case 3:
                    server.process.kill()
                    await asyncio.sleep(chance.uniform(0, 0.1))
                    server.start()
                    await asyncio.to_thread(server.wait_ready)
                case 4:
                    with frozen(server):
                        await asyncio.sleep(chance.choice((0.05, 0.5)))
            await asyncio.sleep(chance.uniform(0, 0.05))
        await world.consumer.assign(0, 1)
        await world.done(SECONDS)
        yield
    finally:
        await world.kill()


@pytest.mark.parametrize("seed", range(3))
async def test_redis(seed: int, server_dir: Path) -> None:
    """With each write synced to the disk: else Redis itself loses its last second when killed."""
    with running(RedisServer(server_dir, lines=["appendfsync always"])) as server:
        most = random.Random(seed).choice((20, 100, 2000))
        settings = {"redis_url": server.url, "redis_stream_max": 100_000, "redis_batch": most, "redis_timeout": 0.3}
        world = HurtWorld(RedisSink, **settings)
        async with hurt(world, server, seed), Redis(port=server.port) as client:
            found = Counter[Place]()
            for partition in (0, 1):
                for _, fields in await client.xrange(f"iot:stream:u{partition}"):
                    found[partition, json.loads(fields[b"reading"])["sequence_id"]] += 1
            assert set(found) == world.log.places()
            assert set(found.values()) == {1}
            assert not world.letters.sent
            for partition, records in world.log.records.items():
                for device in range(min(10, len(records))):
                    value = json.loads(await client.get(f"iot:last:u{partition}/d{device}") or b"{}")
                    newest = max(range(device, len(records), 10), key=lambda n: _time(world, partition, n))
                    assert value["sequence_id"] == newest


def _time(world: HurtWorld, partition: int, number: int) -> tuple[int, int]:
    payload = json.loads(world.log.records[partition][number].value)
    return payload["timestamp"], payload["sequence_id"]


@pytest.mark.parametrize("seed", range(3))
async def test_influx(seed: int, server_dir: Path) -> None:
    """Some readings have a text where the server has a number: dead letters, once each."""
    with running(InfluxServer(server_dir)) as server:
        settings = {"influx_url": server.url, "influx_version": 1, "influx_timeout": 0.3, "influx_flush_ms": 10}
        world = HurtWorld(InfluxSink, influx_sequence_id="field", **settings)
        world.log.append(0, 1, mode=1)
        await world.consumer.assign(0, 1)
        await world.done(SECONDS)
        world.log.append(1, 20, mode="on")
        async with hurt(world, server, seed):
            points = await asyncio.to_thread(server.points)
            found = Counter((int(one["user_id"][1:]), one["sequence_id"]) for one in points)
            refused = {(1, number) for number in range(20)}
            assert set(found) == world.log.places() - refused
            assert set(found.values()) == {1}
            assert set(world.letters.sent) == refused
