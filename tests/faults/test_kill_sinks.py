"""kill -9 of each sink under load: its destination has each reading, and repeats only where these are allowed.

Here all sinks run together and each is killed once; with IOT_FAULTS=full one after another, ten times each.
"""

import asyncio
import os
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.local.layout import SINKS
from tests.servers import KafkaServer
from tools.faults.sinks.destinations import destination
from tools.faults.sinks.traffic import SinkTraffic, balanced, books, sink_site

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(1200)]

FULL = os.environ.get("IOT_FAULTS") == "full"
CASES: list[Sequence[str]] = [(sink,) for sink in SINKS] if FULL else [SINKS]
KILLS, MESSAGES = (10, 200_000) if FULL else (1, 6_000)
RATE = 5_000 if FULL else 1_000  # most messages per second
STOP_SECONDS = 10.0  # in which a sink has to stop


async def kill_again_and_again(traffic: SinkTraffic, name: str) -> None:
    """Kill at random moments, spread over the messages to send."""
    chance, sink = random.Random(name), traffic.sinks[name]
    for number in range(KILLS):
        await traffic.reached(number * MESSAGES // KILLS + 1)
        await asyncio.sleep(chance.uniform(0.1, 2.0))
        sink.kill()
        sink.start()
        await sink.ready(60)
    await traffic.reached(MESSAGES, 600.0)


@pytest.mark.parametrize("names", CASES, ids=[" ".join(names) for names in CASES])
async def test_kill_sinks(
    kafka: KafkaServer, unique: str, tmp_path: Path, server_dir: Path, names: Sequence[str]
) -> None:
    async with AsyncExitStack() as stack:
        destinations = [destination(name, server_dir) for name in names]
        for one in destinations:
            stack.push_async_callback(one.stop)
            await one.start()
        site = await sink_site(kafka.bootstrap, unique, tmp_path, destinations)
        traffic = SinkTraffic(site, destinations, RATE)
        async with traffic.flowing():
            await asyncio.gather(*(kill_again_and_again(traffic, name) for name in names))
            await traffic.settled()
            for name, sink in traffic.sinks.items():
                found = await books(sink)
                assert balanced(found), f"{name}: {found}"
                assert found["skipped"] > 0, f"{name}: {found}"
                assert sink.stop(STOP_SECONDS + 2) < STOP_SECONDS, f"{name} took longer to stop than it may"
        said = await traffic.audited()
    print(f"{KILLS} kills of each; {said}")
