"""Two processes of one sink that stop and start under load, with IOT_FAULTS=full: by SIGTERM, by kill -9, frozen beyond
their session. Partitions move at each step; no record is lost, and repeats occur only where these are allowed.
"""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.local.layout import SINKS
from tests.servers import KafkaServer
from tests.workers import Running
from tools.faults.sinks.destinations import destination
from tools.faults.sinks.traffic import SinkTraffic, sink_site

FULL = os.environ.get("IOT_FAULTS") == "full"
pytestmark = [
    pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(600),
    pytest.mark.skipif(not FULL, reason="minutes: IOT_FAULTS=full, or `make faults`"),
]  # fmt: skip

ROUNDS = 4  # of each way to go
RATE = 2_000  # messages per second
ZOMBIE = 9.0  # seconds: the session timeout is 6 here


async def stopped(one: Running) -> None:
    """The process ends by SIGTERM, and restarts."""
    await asyncio.to_thread(one.stop)
    one.start()


async def killed(one: Running) -> None:
    """The process is killed, and restarts."""
    one.kill()
    one.start()


async def paused(one: Running) -> None:
    """The process is frozen until another process has its partitions, and continues."""
    os.kill(one.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(ZOMBIE)
    finally:
        os.kill(one.pid, signal.SIGCONT)


@pytest.mark.parametrize("sink", SINKS)
async def test_partitions_move_again_and_again(
    kafka: KafkaServer, unique: str, tmp_path: Path, server_dir: Path, sink: str
) -> None:
    where = destination(sink, server_dir)
    await where.start()
    try:
        site = await sink_site(kafka.bootstrap, unique, tmp_path, [where])
        traffic, chance = SinkTraffic(site, [where], RATE), random.Random(sink)
        async with traffic.flowing():
            with site.program(f"sink-{sink}", "the other") as other:
                await other.ready(60)
                both: list[Running] = [traffic.sinks[sink], other]
                ways: list[Callable[[Running], Awaitable[None]]] = [stopped, killed, paused]
                for way in chance.sample(ways * ROUNDS, len(ways) * ROUNDS):
                    await asyncio.sleep(chance.uniform(0.2, 2.0))
                    await way(chance.choice(both))
                    traffic.check()
                    for one in both:
                        await one.ready(60)
                await traffic.settled()
        print(f"{sink}: {await traffic.audited()}")
    finally:
        await where.stop()
