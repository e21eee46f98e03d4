"""Long outages of destinations, with IOT_FAULTS=full: killed, frozen, without permissions, a full disk, S3 that refuses
or is slow. No record is lost or refused, memory does not grow, and a second sink is not affected.
"""

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from app.local.layout import SINKS
from tests.s3 import s3_server
from tests.servers import KafkaServer
from tests.workers import Running
from tools.faults.sinks.destinations import HURTS, Destination, destination
from tools.faults.sinks.stores import REFUSES, SLOW, FullDisk, S3Files, small_disk
from tools.faults.sinks.traffic import SinkTraffic, balanced, books, sink_site

FULL = os.environ.get("IOT_FAULTS") == "full"
pytestmark = [
    pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(600),
    pytest.mark.skipif(not FULL, reason="minutes: IOT_FAULTS=full, or `make faults`"),
]  # fmt: skip

AWAY = {"killed": 60.0}  # seconds
SHORTER = 25.0  # otherwise
NOTICED = 8.0  # seconds, after which what is in memory is in memory
RATE = 1_000  # messages a second
BUFFER = 4 << 20  # IOT_SINK_BUFFER_BYTES here: full within seconds
# A server that is frozen is unavailable after five calls without an answer: below SHORTER here.
TIMEOUTS = {f"{sink}_timeout": 3.0 for sink in ("influx", "redis", "feed", "grpc_push")}
GROWTH = 32 << 20  # most bytes that a process may grow meanwhile: fetches, and the allocator's slack
BESIDE = 10.0  # seconds in which the sink beside has written all that is there


def resident(sink: Running) -> int:
    """Bytes."""
    return int(psutil.Process(sink.pid).memory_info().rss)


async def suffer(kafka: str, unique: str, directory: Path, hurt: Destination, beside: Destination, how: str) -> None:
    """Make `hurt` unavailable while messages flow, and account for all messages at both destinations."""
    settings = {"sink_buffer_bytes": BUFFER, "sink_retry_max": 5, **TIMEOUTS}
    site = await sink_site(kafka, unique, directory, [hurt, beside], **settings)
    traffic = SinkTraffic(site, [hurt, beside], RATE)
    async with traffic.flowing():
        sink = traffic.sinks[hurt.sink]
        await traffic.reached(2 * RATE)
        await hurt.leave(how)
        await asyncio.sleep(NOTICED)
        before = resident(sink)
        await asyncio.sleep(AWAY.get(how, SHORTER) - NOTICED)
        traffic.check()
        assert sink.alive, sink.tail()
        assert resident(sink) - before < GROWTH
        if how != SLOW:
            status, body = await sink.get("/ready")
            assert (status, f'"sink:{hurt.sink}": false' in body) == (503, True), body
        assert (await sink.get("/live"))[0] == 200
        await traffic.written(beside.sink, BESIDE)
        await hurt.come_back(how)
        await sink.ready(60)
        await traffic.settled()
        found = await books(sink)
        assert balanced(found), found
        assert found.get("refused", 0) == 0, found
    print(f"{hurt.sink} {how}: {await traffic.audited()}")


CASES = [(sink, how) for sink in SINKS for how in HURTS[sink]]


@pytest.mark.parametrize(("sink", "how"), CASES, ids=[f"{sink} {how}" for sink, how in CASES])
async def test_a_destination_is_away(
    kafka: KafkaServer, unique: str, tmp_path: Path, server_dir: Path, sink: str, how: str
) -> None:
    hurt, beside = (destination(name, server_dir) for name in (sink, "redis" if sink != "redis" else "parquet"))
    try:
        for one in (hurt, beside):
            await one.start()
        await suffer(kafka.bootstrap, unique, tmp_path, hurt, beside, how)
    finally:
        for one in (hurt, beside):
            await one.stop()


async def test_a_full_disk(kafka: KafkaServer, unique: str, tmp_path: Path, server_dir: Path) -> None:
    beside = destination("redis", server_dir)
    with small_disk(server_dir / "disk") as disk:
        try:
            await beside.start()
            await suffer(kafka.bootstrap, unique, tmp_path, FullDisk(disk), beside, "full")
        finally:
            await beside.stop()


@pytest.mark.parametrize("how", [REFUSES, SLOW])
async def test_a_bucket(kafka: KafkaServer, unique: str, tmp_path: Path, server_dir: Path, how: str) -> None:
    beside = destination("redis", server_dir)
    with s3_server() as server:
        try:
            await beside.start()
            await suffer(kafka.bootstrap, unique, tmp_path, S3Files(server, unique), beside, how)
        finally:
            await beside.stop()
