"""A worker stalled for longer than its session wakes with work in hand that is another worker's now: it writes none."""

import asyncio
import os
import signal

import pytest

from tests.integration.test_notifier import listening
from tests.workers import Running, Site, until
from tools.audit import audit, expected_alerts
from tools.faults.away import Servers
from tools.faults.load import THRESHOLD, load

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(300)]

RATE = 1500


async def test_a_stalled_worker_leaves_its_work_to_the_new_owner(breakable: Servers, fragile: Site) -> None:
    """All books balance; then both die, and an empty disk is filled from the log, where nothing was taken back.

    Kafka answers nothing for a moment when the worker wakes: work that is due is due before Kafka says whose it is.
    """
    site = fragile
    async with listening(site.mqtt, site.unique) as heard:
        with (
            site.program("notifier"),
            site.program("worker", "stalled") as stalled,
            site.program("worker", "owner") as owner,
        ):
            await asyncio.gather(stalled.ready(), owner.ready())
            async with load(site, RATE, seed=9) as before:
                await asyncio.sleep(2)
                os.kill(stalled.pid, signal.SIGSTOP)
                await asyncio.sleep(5)
            await site.settled_input()
            os.kill(breakable.kafka.pid, signal.SIGSTOP)
            os.kill(stalled.pid, signal.SIGCONT)
            try:
                await until(lambda: _waits(stalled), 20, lambda: f"the worker had nothing to write:\n{stalled.tail()}")
            finally:
                os.kill(breakable.kafka.pid, signal.SIGCONT)
            await asyncio.sleep(2)
            stalled.kill()
            owner.kill()
            owner.forget()
            owner.start()
            async with load(site, RATE, seed=10) as after:
                await owner.ready()
                await asyncio.sleep(2)
            await site.settled()
            sent = before + after
            books = await audit(site, sent, expected_alerts(sent, THRESHOLD), heard)
            shared = [line["foreign_records"] for line in stalled.events("state_changelog_shared")]
            owner.stop()
    print(
        f"{len(sent)} messages, {books.rows} rows, {books.dead} dead letters, {books.heard} alerts; the stalled worker "
        f"wrote states behind those of the owner: {shared}"
    )
    books.must_balance()


async def _waits(worker: Running) -> bool:
    return bool(worker.events("kafka_session_unsure"))
