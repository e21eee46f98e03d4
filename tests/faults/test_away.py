"""Kafka, the database or the MQTT broker goes away while messages flow, and comes back: no program is started again.

Outages are short; with IOT_FAULTS=full each server is away for a minute, frozen as well as killed.
"""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import pytest

from app.local.servers.kafka import Kafka
from app.local.servers.mosquitto import Mosquitto
from app.local.servers.postgres import Postgres
from tests.integration.bridges import publisher
from tests.workers import Site, until
from tools.audit import Sent, audit, expected_alerts
from tools.faults.away import Servers, come_back, leave
from tools.faults.load import THRESHOLD, messages

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(400)]

FULL = os.environ.get("IOT_FAULTS") == "full"
AWAY = 60.0 if FULL else 10.0  # seconds; longer than the workers' session timeout
RATE, BURST = 300, 30


@asynccontextmanager
async def publishing(site: Site, source: Iterator[Sent], sent: list[Sent]) -> AsyncIterator[None]:
    """Publish while this is open; `sent` is what the MQTT broker has acknowledged."""
    stop = asyncio.Event()

    async def publish() -> None:
        async with publisher(site.mqtt, f"publisher-{site.unique}") as client:
            while not stop.is_set():
                burst = list(itertools.islice(source, BURST))
                assert await client.publish([(one.topic, one.payload) for one in burst]) == BURST
                sent.extend(burst)
                await asyncio.sleep(BURST / RATE)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        stop.set()
        await task


async def stored(site: Site, sent: list[Sent], seconds: float) -> float:
    """Wait until every good message is a row; the seconds it took."""
    began, wanted = time.monotonic(), sum(one.reason is None for one in sent)
    rows = 0

    async def reached() -> bool:
        nonlocal rows
        rows = (await site.fetch("SELECT count(*) FROM raw_telemetry"))[0][0]
        return bool(rows >= wanted)

    await until(reached, seconds, lambda: f"{rows} rows of {wanted}")
    return time.monotonic() - began


CASES = ["kafka killed"]
MORE = ["mosquitto killed", "kafka frozen", "postgres killed", "postgres frozen", "mosquitto frozen"]


@pytest.mark.parametrize("case", CASES + (MORE if FULL else []))
async def test_away(fragile: Site, breakable: Servers, case: str) -> None:
    name, how = case.split()
    server: Kafka | Postgres | Mosquitto = getattr(breakable, name)
    source, sent = messages(fragile.unique, seed=3), list[Sent]()
    with ExitStack() as stack:
        programs = [stack.enter_context(fragile.program(kind)) for kind in ("worker", "bridge", "notifier")]
        for program in programs:
            await program.ready(60)
        async with publishing(fragile, source, sent):
            await asyncio.sleep(2)
            if name != "mosquitto":
                leave(server.process, how)
                await asyncio.sleep(AWAY)
        if name == "mosquitto":  # nobody can publish
            leave(server.process, how)
            await asyncio.sleep(AWAY)
        await come_back(server, how)
        if name == "mosquitto":
            async with publishing(fragile, source, sent):
                await asyncio.sleep(2)
        seconds = await stored(fragile, sent, 60)
        for program in programs:
            await program.ready(60)
        await fragile.settled()
        assert all(program.alive for program in programs)
        books = await audit(fragile, sent, expected_alerts(sent, THRESHOLD), redelivered=True)
        books.must_balance()
        print(f"{case} for {AWAY:.0f} s: {len(sent)} messages, all stored {seconds:.1f} s after it was back")
