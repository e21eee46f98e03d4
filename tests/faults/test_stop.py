"""SIGTERM ends every program soon, whoever is gone, and whatever it is doing; programs start in any order.

With IOT_FAULTS=full Kafka is away for longer before the stop, and in more situations.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from app.kafka.access import Access
from app.kafka.topics import create, wanted
from tests.workers import Running, Site, until
from tools.audit import audit, expected_alerts
from tools.faults.away import Servers, come_back, leave
from tools.faults.load import THRESHOLD, load

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(400)]

FULL = os.environ.get("IOT_FAULTS") == "full"
AWAY = 40.0 if FULL else 8.0  # seconds between the loss and the stop; longer than the workers' session timeout
KINDS = ("worker", "bridge", "notifier")
SECONDS = 10.0


async def stopped(programs: Sequence[Running], seconds: float = SECONDS) -> str:
    """Stop all at once; how long each took. Fails when one ends badly or late."""
    began = time.monotonic()
    took = await asyncio.gather(*(asyncio.to_thread(program.stop, 60) for program in programs))
    found = {program.name: round(one, 1) for program, one in zip(programs, took, strict=True)}
    assert max(took) < seconds, found
    assert time.monotonic() - began < seconds + 5
    return str(found)


SITUATIONS = ["kafka frozen"]
MORE = ["kafka killed", "postgres frozen", "postgres killed", "mosquitto frozen", "mosquitto killed"]


@pytest.mark.parametrize("case", SITUATIONS + (MORE if FULL else []))
async def test_a_stop_of_idle_programs(fragile: Site, breakable: Servers, case: str) -> None:
    name, how = case.split()
    server = getattr(breakable, name)
    with ExitStack() as stack:
        programs = [stack.enter_context(fragile.program(kind)) for kind in KINDS]
        for program in programs:
            await program.ready(60)
        leave(server.process, how)
        try:
            await asyncio.sleep(AWAY)
            print(f"{case} for {AWAY:.0f} s, idle: {await stopped(programs)}")
        finally:
            await come_back(server, how)


async def test_a_stop_under_load_with_kafka_frozen(fragile: Site, breakable: Servers) -> None:
    """What was not finished is done by the next start, once."""
    with fragile.program("worker") as worker:
        await worker.ready(60)
        async with load(fragile, 1000, seed=8) as sent:
            await asyncio.sleep(3)
            leave(breakable.kafka.process, "frozen")
            try:
                await asyncio.sleep(2)
                print(f"kafka frozen, under load: {await stopped([worker])}")
            finally:
                await come_back(breakable.kafka, "frozen")
            worker.start()
        await fragile.settled_input()
        (await audit(fragile, sent, expected_alerts(sent, THRESHOLD))).must_balance()


async def waits(program: Running, *events: str) -> None:
    """Until it says that it waits."""

    async def said() -> bool:
        assert program.alive, program.tail()
        return any(program.events(event) for event in events)

    await until(said, 60, lambda: f"{program.name} says nothing of waiting:\n{program.tail()}")


async def test_programs_start_in_any_order(fragile: Site, breakable: Servers) -> None:
    """Before Kafka, before its topics, before the database; a stop ends the waiting at once."""
    site = Site(
        fragile.kafka, fragile.database, fragile.mqtt, f"{fragile.unique}x", fragile.directory, fragile.more
    )  # the topics of this site do not exist
    leave(breakable.kafka.process, "killed")
    leave(breakable.postgres.process, "killed")
    with ExitStack() as stack:
        programs = [stack.enter_context(site.program(kind)) for kind in KINDS]
        for program in programs:
            await waits(program, "waiting_for_kafka", "bridge_kafka_retry", "notifier_retry")
        print(f"waiting for Kafka: {await stopped(programs)}")
        for program in programs:
            program.start()
        await come_back(breakable.kafka, "killed")
        await waits(programs[0], "waiting_for_topics")
        await create(Access(site.kafka), wanted(site.settings), 1)
        await come_back(breakable.postgres, "killed")
        for program in programs:
            await program.ready(60)
        print(f"healthy: {await stopped(programs)}")
