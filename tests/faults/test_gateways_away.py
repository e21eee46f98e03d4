"""Gateways under what lasts long, with IOT_FAULTS=full: Kafka away for a minute, slow and half-open clients, a client
that repeats everything. All that was answered is a row once, or a dead letter; memory does not grow meanwhile.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import psutil
import pytest

from app.local.layout import WAYS
from tests.workers import Running, Site
from tools.faults.away import Servers, come_back, leave
from tools.faults.ways.mischief import half_open_clients, slow_clients
from tools.faults.ways.setup import Door, door, open_account
from tools.faults.ways.traffic import Traffic

FULL = os.environ.get("IOT_FAULTS") == "full"
pytestmark = [
    pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(900),
    pytest.mark.skipif(not FULL, reason="minutes: IOT_FAULTS=full, or `make faults`"),
]  # fmt: skip

AWAY = 60.0  # seconds
RATE = 500  # messages a second of each way
GROWTH = 48 << 20  # bytes that a process may take more while Kafka is away: what it holds, and the allocator's slack
BUFFER = 16 << 20  # IOT_GATEWAY_BUFFER_BYTES of these gateways


@asynccontextmanager
async def gateways(site: Site, entrance: Door) -> AsyncIterator[tuple[dict[str, Running], Traffic]]:
    """All four under load, and a worker behind them; what was sent is accounted for at the end."""
    await open_account(site)
    traffic = Traffic(site, entrance, WAYS, RATE)
    with ExitStack() as stack:
        worker = stack.enter_context(site.program("worker"))
        made = {way: stack.enter_context(site.program(way)) for way in WAYS}
        for program in (worker, *made.values()):
            await program.ready(60)
        async with traffic.flowing():
            for stream in traffic.streams:
                await traffic.reached(stream, RATE)
            yield made, traffic
        assert all(program.alive for program in made.values())
        await site.settled_input(120)
    accounts = await traffic.audited()
    print(traffic.summary(accounts))


def memory(programs: dict[str, Running]) -> dict[str, int]:
    """Resident bytes of each."""
    return {name: psutil.Process(one.pid).memory_info().rss for name, one in programs.items()}


def with_ways(site: Site, entrance: Door) -> Site:
    """The same site, with settings of gateways."""
    more = {**site.more, **entrance.settings, "gateway_buffer_bytes": BUFFER}
    return Site(site.kafka, site.database, site.mqtt, site.unique, site.directory, more)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_kafka_away(fragile: Site, breakable: Servers, server_dir: Path, how: str) -> None:
    entrance = door(fragile.unique, server_dir)
    async with gateways(with_ways(fragile, entrance), entrance) as (programs, traffic):
        leave(breakable.kafka.process, how)
        await asyncio.sleep(10)  # clients have noticed, and what is taken is taken
        before = memory(programs)
        answered = {stream.way: stream.sent for stream in traffic.streams}
        await asyncio.sleep(AWAY - 10)
        assert {stream.way: stream.sent for stream in traffic.streams} == answered, "answered without Kafka's ack"
        grown = {name: after - before[name] for name, after in memory(programs).items()}
        assert max(grown.values()) < GROWTH, grown
        for program in programs.values():
            _, text = await program.get("/health")
            assert json.loads(text)["kafka"] is False, f"{program.name}: {text}"
        await come_back(breakable.kafka, how)
        for program in programs.values():
            await program.ready(60)
        for stream in traffic.streams:
            await traffic.reached(stream, answered[stream.way] + RATE)


@pytest.mark.parametrize("kind", ["slow", "half-open"])
async def test_clients_that_never_end_what_they_begin(fragile: Site, server_dir: Path, kind: str) -> None:
    """A hundred of them at each gateway: whoever sends as one should is answered as before."""
    entrance = door(fragile.unique, server_dir)
    async with gateways(with_ways(fragile, entrance), entrance) as (programs, traffic):
        before = memory(programs)
        undone = [await (slow_clients if kind == "slow" else half_open_clients)(way, entrance) for way in WAYS]
        begun = {stream.way: stream.sent for stream in traffic.streams}
        await asyncio.sleep(30)
        for stream in traffic.streams:
            assert stream.sent > begun[stream.way] + 10 * RATE, (
                f"{stream.way}: {stream.sent - begun[stream.way]} in 30 s"
            )
        grown = {name: after - before[name] for name, after in memory(programs).items()}
        assert max(grown.values()) < GROWTH, grown
        for undo in undone:
            await undo()


async def test_a_client_that_repeats_everything(fragile: Site, server_dir: Path) -> None:
    entrance = door(fragile.unique, server_dir)
    async with gateways(with_ways(fragile, entrance), entrance) as (_, traffic):
        for pace in traffic.paces:
            pace.again = True
        for stream in traffic.streams:
            await traffic.reached(stream, stream.sent + 10 * RATE)
    assert traffic.tail.repeats() > 30 * RATE
