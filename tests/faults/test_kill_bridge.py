"""kill -9 of the bridge under load, with everything behind it running: each message is a row or a dead letter once."""

import asyncio
import itertools
import os
import random
from functools import partial

import pytest

from tests.integration.bridges import publisher
from tests.integration.test_notifier import listening
from tests.workers import Site, until
from tools.audit import Sent, audit, expected_alerts, read
from tools.faults.load import THRESHOLD, messages

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(300)]

KILLS = 10 if os.environ.get("IOT_FAULTS") == "full" else 3
BURST = 400  # messages published one after another, then a breath
RATE = 4000  # messages a second, at most


async def test_kill_bridge(site: Site) -> None:
    chance = random.Random(3)
    sent: list[Sent] = []
    async with listening(site.mqtt, site.unique) as heard:
        with site.program("worker") as worker, site.program("notifier"), site.program("bridge") as bridge:
            await worker.ready()
            await bridge.ready()
            stop = asyncio.Event()
            publishing = asyncio.create_task(publish(site, sent, stop))
            for _ in range(KILLS):
                await asyncio.sleep(chance.uniform(0.2, 1.5))
                bridge.kill()
                bridge.start()
                await bridge.ready()
            stop.set()
            await publishing
            await until(partial(bridged, site, sent), 60, lambda: "not all messages are on the input topic")
            bridge.stop()
            await site.settled()
            alerts = expected_alerts(sent, THRESHOLD)
            assert len(alerts) > 100
            books = await audit(site, sent, alerts, heard, redelivered=True)
    books.must_balance()
    print(
        f"{len(sent)} published, {KILLS} kills, {books.given} on the input topic, {books.rows} rows, {books.dead} dead"
    )


async def publish(site: Site, sent: list[Sent], stop: asyncio.Event) -> None:
    """Publish in order until stopped; `sent` is what the broker has acknowledged."""
    source = messages(site.unique, seed=3)
    async with publisher(site.mqtt, f"publisher-{site.unique}") as client:
        while not stop.is_set():
            burst = list(itertools.islice(source, BURST))
            assert await client.publish([(one.topic, one.payload) for one in burst]) == BURST
            sent += burst
            await asyncio.sleep(BURST / RATE)


async def bridged(site: Site, sent: list[Sent]) -> bool:
    """Whether every message is on the input topic; the payloads are all different."""
    if sum((await site.ends()).values()) < len(sent):
        return False
    return {one.payload for one in sent} <= {record.value for record in await read(site, site.settings.kafka_topic)}
