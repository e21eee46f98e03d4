"""A real worker whose PostgreSQL is stopped: what it does meanwhile, a rebalance and a stop in it, and its end."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from app.local.servers.postgres import Postgres
from app.postgres.schema import init_sql
from tests.servers import KafkaServer, MqttServer, server_directory
from tests.workers import Running, Site, until
from tools.audit import Sent, audit

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

MIB = 1 << 20
BUFFER = 8 * MIB
PARTITIONS = 6
PATIENCE = 60.0  # seconds that a stop or a rebalance may wait for running writes: longer than the test waits for them
LATE = 3.0


@pytest.fixture
async def hurt(
    kafka: KafkaServer, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> AsyncIterator[tuple[Site, Postgres]]:
    """A site with a server of its own, whose breaker nothing closes in the time of a test but its probe."""
    with server_directory() as directory:
        server = Postgres(directory)
        await asyncio.to_thread(server.start)
        try:
            await asyncio.to_thread(server.wait_ready)
            await init_sql.apply(server.dsn)
            more = {
                "kafka_partitions": PARTITIONS,
                "buffer_max_bytes": BUFFER,
                "kafka_max_fetch_bytes": MIB,
                "lag_warning_seconds": LATE,
                "shutdown_timeout": PATIENCE,
                "breaker_reset_min": 600,
                "breaker_reset_max": 600,
            }
            site = Site(kafka.bootstrap, server.dsn, mosquitto, unique, tmp_path, more)
            await site.prepare([])
            yield site, server
        finally:
            await asyncio.to_thread(server.stop)


async def produce(site: Site, sent: list[Sent], count: int, size: int) -> None:
    """Send readings of 60 devices, each with `size` bytes of ballast, and note them."""
    topic = site.settings.kafka_topic
    async with AIOKafkaProducer(bootstrap_servers=site.kafka, linger_ms=20, max_batch_size=256 << 10) as producer:
        pending = []
        for number in range(len(sent), len(sent) + count):
            device = f"d{number % 60}"
            reading = {"time": datetime.now(UTC).isoformat(), "sequence_id": number, "temperature": 20, "n": "x" * size}
            one = Sent(f"users/u/devices/{device}/telemetry", f"u/{device}".encode(), json.dumps(reading).encode())
            headers = [("mqtt_topic", one.topic.encode()), ("kind", b"telemetry")]
            pending.append(await producer.send(topic, one.payload, key=one.key, headers=headers))
            sent.append(one)
        await asyncio.gather(*pending)


async def metric(worker: Running, name: str) -> float:
    """The value of a metric without labels."""
    lines = (await worker.get("/metrics"))[1].splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


async def group(site: Site) -> tuple[str, int]:
    """State and number of members of the consumer group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    await admin.start()
    try:
        answers = await admin.describe_consumer_groups([site.settings.group_id])
    finally:
        await admin.close()
    described: Any = answers[0].groups[0]
    return str(described[2]), len(described[5])


async def seconds_until(true: Callable[[], Awaitable[bool]], limit: float, what: Callable[[], str]) -> float:
    """Wait, and say how long it took."""
    began = time.monotonic()
    await until(true, limit, what)
    return time.monotonic() - began


async def test_an_outage(hurt: tuple[Site, Postgres]) -> None:
    site, server = hurt
    sent: list[Sent] = []
    with site.program("worker") as worker:
        await worker.ready()
        await produce(site, sent, 2000, 10)
        await site.settled_input()
        before, late = await site.committed(), len(worker.events("records_late"))
        await asyncio.to_thread(server.stop)
        await produce(site, sent, 100, 10)
        await until(lambda: logged(worker, "circuit_breaker_OPENED"), 20, worker.tail)
        memory = psutil.Process(worker.pid).memory_info().rss
        await produce(site, sent, 24_000, 2000)  # six times what may be held

        await held(site, worker, before, memory)
        await reported_late(worker, late)
        await rebalanced(site, worker)

        await asyncio.to_thread(server.start)
        await asyncio.to_thread(server.wait_ready)
        seconds = await seconds_until(lambda: logged(worker, "circuit_breaker_CLOSED"), 60, worker.tail)
        print(f"closed {seconds:.1f} s after PostgreSQL was back")
        await site.settled_input()
        assert await metric(worker, "db_circuit_breaker_state") == 0
        assert len(worker.events("circuit_breaker_OPENED")) <= len(worker.events("circuit_breaker_HALF-OPEN"))
        assert len(worker.events("database_failed")) <= 10  # not one for each try
        await until(lambda: logged(worker, "records_on_time"), 20, worker.tail)
        await until(lambda: nothing_waits(worker), 10, worker.tail)

        await stopped_in_an_outage(site, server, worker, sent)
        worker.start()
        await site.settled_input()
    books = await audit(site, sent)
    books.must_balance()
    assert books.dead == 0


async def logged(worker: Running, event: str) -> bool:
    """Whether a line of that event is in the log."""
    return bool(worker.events(event))


async def held(site: Site, worker: Running, before: dict[int, int], memory: int) -> None:
    """For longer than the session timeout: offsets, memory and membership stay as they are."""
    deadline = time.monotonic() + site.settings.kafka_session_timeout + 1
    while time.monotonic() < deadline:
        assert await group(site) == ("Stable", 1)
        assert await metric(worker, "iot_buffered_bytes") < BUFFER + PARTITIONS * 2 * MIB
        assert psutil.Process(worker.pid).memory_info().rss < memory + 120 * MIB
        await asyncio.sleep(0.5)
    assert await site.committed() == before
    assert await metric(worker, "db_circuit_breaker_state") > 0
    assert await metric(worker, "db_circuit_breaker_rejected_total") > 0
    status, body = await worker.get("/ready")
    assert (status, (await worker.get("/live"))[0]) == (503, 200)
    assert "goes on by itself" in json.loads(body)["advice"]["writes"], body


async def reported_late(worker: Running, before: int) -> None:
    """Each partition once, after those before the outage: where its records wait, why, and how many there are."""
    lines = worker.events("records_late")[before:]
    assert sorted(line["partition"] for line in lines) == list(range(PARTITIONS))
    for line in lines:
        assert line["seconds"] > LATE
        assert line["records"] > 0
        assert "circuit breaker is open" in line["cause"] or "held up" in line["cause"], line
    waiting = [float(line.rpartition(" ")[2]) for line in await series(worker, "iot_consumer_lag_seconds")]
    assert len(waiting) == PARTITIONS
    assert min(waiting) > LATE
    status, body = await worker.get("/health")
    found = json.loads(body)
    assert (status, found["status"], found["database"], found["kafka"]) == (200, "not ready", False, True), body
    assert found["queue_depth"] > 0
    assert "database_failed" in found["last_error"]["error"] or "circuit_breaker" in found["last_error"]["error"], body


async def series(worker: Running, name: str) -> list[str]:
    """The lines of a metric with labels."""
    return [line for line in (await worker.get("/metrics"))[1].splitlines() if line.startswith(f"{name}{{")]


async def nothing_waits(worker: Running) -> bool:
    """Whether no partition has a record that is not done, as of the last second."""
    return {line.rpartition(" ")[2] for line in await series(worker, "iot_consumer_lag_seconds")} == {"0.0"}


async def rebalanced(site: Site, worker: Running) -> None:
    """A second worker joins, and is stopped again, without waiting for the outage to end."""
    with site.program("worker", "second") as second:
        await until(lambda: in_group(site, "", 2), 40, second.tail)
        joined = await seconds_until(lambda: in_group(site, "Stable", 2), 30, second.tail)
        await until(lambda: logged(second, "database_failed"), 30, second.tail)  # the worker says what it waits for
        stopped = await asyncio.to_thread(second.stop)
        left = await seconds_until(lambda: in_group(site, "Stable", 1), 30, worker.tail)
        print(f"rebalance {joined:.1f} s after the join, stop {stopped:.1f} s, rebalance {left:.1f} s after it")
        assert max(joined, stopped, left) < PATIENCE / 2


async def stopped_in_an_outage(site: Site, server: Postgres, worker: Running, sent: list[Sent]) -> None:
    """SIGTERM while the breaker is open and batches are held; then the server is back."""
    count = len(worker.events("circuit_breaker_OPENED"))
    await asyncio.to_thread(server.stop)
    await produce(site, sent, 1000, 10)
    await until(lambda: opened_more_than(worker, count), 20, worker.tail)
    seconds = await asyncio.to_thread(worker.stop)
    print(f"stop with the breaker open {seconds:.1f} s")
    assert seconds < PATIENCE / 2
    assert sum((await site.committed()).values()) == len(sent) - 1000
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.wait_ready)


async def opened_more_than(worker: Running, count: int) -> bool:
    """Whether the breaker opened once more."""
    return len(worker.events("circuit_breaker_OPENED")) > count


async def in_group(site: Site, state: str, members: int) -> bool:
    """Whether the group has that many members, and is in that state ("": any)."""
    now = await group(site)
    return now[1] == members and now[0].startswith(state)
