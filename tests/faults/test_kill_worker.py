"""kill -9 of workers under load: each message is a row or a dead letter once, each alert is sent once.

IOT_FAULTS=full kills ten times instead of twice.
"""

import asyncio
import os
import random
from contextlib import ExitStack, closing
from typing import Any

import pytest

from tests.integration.test_notifier import listening
from tests.workers import Running, Site
from tools.audit import audit, expected_alerts
from tools.faults.load import THRESHOLD, load
from tools.faults.takeover import worker

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(600)]

FULL = os.environ.get("IOT_FAULTS") == "full"
KILLS = 10 if FULL else 2
RATE = 3000  # messages a second
EPISODES = 500  # at least so many alerts must have fired, or the test proves little


async def kill_under_load(site: Site, workers: list[Running], heard: list[dict[str, Any]], seed: int) -> str:
    """Kill a worker at a moment drawn by lot, start it again, wait until the workers have caught up; and so on."""
    chance = random.Random(seed)
    seconds = []
    async with load(site, RATE, seed) as sent:
        for number in range(KILLS):
            await asyncio.sleep(chance.uniform(0.5, 3))
            victim = chance.choice(workers)
            victim.kill()
            ends = await site.ends()
            if number % 2:  # every other time it comes back with an empty disk
                victim.forget()
            victim.start()
            seconds.append(await site.committed_to(ends))
    await site.settled()
    alerts = expected_alerts(sent, THRESHOLD)
    assert sum(alert.status == "FIRING" for alert in alerts) >= EPISODES
    books = await audit(site, sent, alerts, heard)
    books.must_balance()
    return (
        f"{len(sent)} messages, {KILLS} kills, {books.rows} rows, {books.dead} dead letters, {books.heard} alerts "
        f"({books.alert_repeats} repeats on the alert topic); caught up after "
        + ", ".join(f"{one:.1f}" for one in seconds)
        + " s"
    )


@pytest.mark.parametrize("count", [1, 2], ids=["the only worker", "one of two workers"])
async def test_kill(site: Site, count: int) -> None:
    async with listening(site.mqtt, site.unique) as heard:
        with ExitStack() as stack:
            stack.enter_context(site.program("notifier"))
            workers = [stack.enter_context(site.program("worker", f"worker{n}")) for n in range(count)]
            for worker in workers:
                await worker.ready()
            print(await kill_under_load(site, workers, heard, seed=count))
            for worker in workers:
                worker.stop()


@pytest.mark.parametrize("named", [False, True], ids=["unnamed", "with IOT_KAFKA_INSTANCE_ID"])
async def test_started_again_while_the_other_takes_over(site: Site, named: bool) -> None:
    """Around the end of the session it has left, so that its joining meets the take-over; each of the two in turn."""
    async with listening(site.mqtt, site.unique) as heard:
        with ExitStack() as stack:
            stack.enter_context(site.program("notifier"))
            workers = [stack.enter_context(closing(worker(site, name, named=named))) for name in ("one", "two")]
            for one in workers:
                one.start()
                await one.ready()
            async with load(site, RATE // 2, seed=7) as sent:
                for victim, seconds in zip(workers, (4.0, 5.0), strict=True):
                    await asyncio.sleep(1)
                    victim.kill()
                    await asyncio.sleep(seconds)
                    victim.start()
                    await victim.ready()
            await site.settled()
            books = await audit(site, sent, expected_alerts(sent, THRESHOLD), heard)
            books.must_balance()
            ends = [line for one in workers for line in one.events("rebalance_ended")]
            for one in workers:
                one.stop()
    assert sum(bool(line["gained"]) for line in ends) >= len(workers)
    print(f"{len(sent)} messages; rebalances, in seconds: {[line['seconds'] for line in ends]}")
