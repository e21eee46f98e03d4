"""kill -9 of each gateway under load: each message that was answered is a row once, or a dead letter, in order.

All gateways run at once and are killed once; with IOT_FAULTS=full one after another, each ten times while a million
messages are answered.
"""

import asyncio
import os
import random
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.local.layout import WAYS
from tests.faults.conftest import NO_BUDGET
from tests.servers import KafkaServer, MqttServer
from tests.workers import Running, Site
from tools.faults.load import RULES
from tools.faults.ways.setup import door, open_account
from tools.faults.ways.streams import WayStream
from tools.faults.ways.traffic import Traffic

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(1800)]

FULL = os.environ.get("IOT_FAULTS") == "full"
CASES: list[Sequence[str]] = [(way,) for way in WAYS] if FULL else [WAYS]
KILLS, MESSAGES = (10, int(os.environ.get("IOT_TEST_MESSAGES", "1000000"))) if FULL else (1, 2_000)  # of each way
RATE = 30_000 if FULL else 1_000  # messages a second, at most
ACK_SECONDS = 0.02  # about as long as an answer takes: some kills come before Kafka has the batch, some after
STOP_SECONDS = 10.0  # in which a gateway has to stop


async def kill_again_and_again(traffic: Traffic, gateway: Running, stream: WayStream) -> None:
    """At moments drawn by lot, spread over what is to be sent."""
    chance = random.Random(stream.way)
    for number in range(KILLS):
        await traffic.reached(stream, number * MESSAGES // KILLS + 1)
        await asyncio.sleep(chance.uniform(0.1, 1.0))
        await traffic.under_way(stream)
        await asyncio.sleep(chance.uniform(0.0, ACK_SECONDS))
        gateway.kill()
        gateway.start()
        await gateway.ready()
    await traffic.reached(stream, MESSAGES, 900.0)


@pytest.mark.parametrize("ways", CASES, ids=[" ".join(ways) for ways in CASES])
async def test_kill_gateways(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path, server_dir: Path,
    ways: Sequence[str],
) -> None:  # fmt: skip
    entrance = door(unique, server_dir)
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, NO_BUDGET | entrance.settings)
    await site.prepare(RULES)
    await open_account(site)
    traffic = Traffic(site, entrance, ways, RATE)
    with ExitStack() as stack:
        worker = stack.enter_context(site.program("worker"))
        gateways = [stack.enter_context(site.program(way)) for way in ways]
        for program in (worker, *gateways):
            await program.ready()
        async with traffic.flowing():
            pairs = zip(gateways, traffic.streams, strict=True)
            await asyncio.gather(*(kill_again_and_again(traffic, gateway, stream) for gateway, stream in pairs))
        for gateway in gateways:
            assert gateway.stop(STOP_SECONDS + 2) < STOP_SECONDS, f"{gateway.name} took longer to stop than it may"
        assert not entrance.grpc_socket.exists(), "the socket is removed"
        await site.settled_input(300)
    accounts = await traffic.audited()
    print(f"{KILLS} kills of each; {traffic.summary(accounts)}")
