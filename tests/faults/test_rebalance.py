"""Workers joining and leaving under load, politely and not: each message is a row or a dead letter once."""

import asyncio
import random
from contextlib import ExitStack

import pytest

from tests.integration.test_notifier import listening
from tests.workers import Running, Site
from tools.audit import audit, expected_alerts
from tools.faults.load import THRESHOLD, load

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(300)]

RATE = 2000


async def test_two_workers_join_and_leave(site: Site) -> None:
    """One worker works all the time; two come and go, by SIGTERM and by SIGKILL, while others are still joining."""
    chance = random.Random(4)
    async with listening(site.mqtt, site.unique) as heard:
        with ExitStack() as stack:
            stack.enter_context(site.program("notifier"))
            stays, one, two = (stack.enter_context(site.program("worker", name)) for name in ("stays", "one", "two"))
            await stays.ready()
            async with load(site, RATE, seed=4) as sent:
                for leave in (Running.stop, Running.kill, Running.stop):
                    await asyncio.sleep(chance.uniform(1, 3))
                    leave(one)
                    one.start()
                    await asyncio.sleep(chance.uniform(0, 2))
                    two.stop()
                    await asyncio.sleep(chance.uniform(0, 2))
                    two.start()
            await site.settled()
            alerts = expected_alerts(sent, THRESHOLD)
            books = await audit(site, sent, alerts, heard)
            books.must_balance()
            for worker in (one, two, stays):
                worker.stop()
    print(f"{len(sent)} messages, 6 leaves, {books.rows} rows, {books.dead} dead letters, {books.heard} alerts")
