"""PostgreSQL stopped under load: nothing is lost or dead-lettered, and the worker goes on by itself."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.local.servers.kafka import Kafka
from app.local.servers.postgres import Postgres
from tests.conftest import INIT_SQL
from tests.integration.test_notifier import listening
from tests.servers import MqttServer, server_directory
from tests.workers import Running, Site, until
from tools.audit import audit, expected_alerts
from tools.faults.load import RULES, THRESHOLD, load

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(300)]

RATE = 2000
OUTAGE = 8.0  # seconds; longer than the workers' session timeout
BREAKER = {"breaker_reset_min": 1, "breaker_reset_max": 2, "alerts_per_minute": 0}


@pytest.fixture(scope="module")
def own() -> Iterator[tuple[Kafka, Postgres]]:
    """Servers that may be hurt."""
    with server_directory() as directory:
        servers = Kafka(directory / "kafka"), Postgres(directory / "postgres")
        try:
            for server in servers:
                server.start()
            for server in servers:
                server.wait_ready()
            yield servers
        finally:
            for server in servers:
                server.stop()


@pytest.fixture
async def hurt(own: tuple[Kafka, Postgres], mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    """Topics, rules and a database of this test alone on those servers."""
    kafka, postgres = own
    await execute(postgres.dsn, f"CREATE DATABASE {unique}")
    await execute(postgres.dsn_of(unique), INIT_SQL.read_text())
    made = Site(kafka.bootstrap, postgres.dsn_of(unique), mosquitto, unique, tmp_path, BREAKER)
    await made.prepare(RULES)
    return made


async def execute(dsn: str, sql: str) -> None:
    """Run SQL text."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def check(site: Site, sent: list[Any], heard: list[dict[str, Any]]) -> str:
    """All that was sent is there once; what the outage touched too."""
    alerts = expected_alerts(sent, THRESHOLD)
    assert len(alerts) > 300
    books = await audit(site, sent, alerts, heard)
    books.must_balance()
    return f"{len(sent)} messages, {books.rows} rows, {books.dead} dead letters, {books.heard} alerts"


async def test_postgres_is_stopped(hurt: Site, own: tuple[Kafka, Postgres]) -> None:
    postgres = own[1]
    async with listening(hurt.mqtt, hurt.unique) as heard:
        with hurt.program("worker") as worker, hurt.program("notifier"):
            await worker.ready()
            async with load(hurt, RATE, seed=5) as sent:
                await asyncio.sleep(2)
                await asyncio.to_thread(postgres.stop)
                before = await hurt.ends()
                await until(lambda: metric(worker, "db_circuit_breaker_state"), 15, lambda: "the breaker stays closed")
                assert (await worker.get("/ready"))[0] == 503
                assert (await worker.get("/live"))[0] == 200
                await asyncio.sleep(OUTAGE)
                held = await hurt.committed()
                postgres.start()
                await asyncio.to_thread(postgres.wait_ready)
                ends = await hurt.ends()
                seconds = await hurt.committed_to(ends)
                assert all(offset <= before[partition] for partition, offset in held.items()), "the offsets were held"
                assert sum(ends.values()) > sum(before.values()), "and there was load"
            await hurt.settled()
            assert (await worker.get("/ready"))[0] == 200
            print(f"{await check(hurt, sent, heard)}; caught up {seconds:.1f} s after PostgreSQL was back")


async def metric(worker: Running, name: str) -> bool:
    """Whether a gauge without labels is above 0."""
    lines = (await worker.get("/metrics"))[1].splitlines()
    return any(float(line.split()[1]) > 0 for line in lines if line.startswith(f"{name} "))


async def test_a_stop_while_the_database_is_down(hurt: Site, own: tuple[Kafka, Postgres]) -> None:
    postgres = own[1]
    async with listening(hurt.mqtt, hurt.unique) as heard:
        with hurt.program("worker") as worker, hurt.program("notifier"):
            await worker.ready()
            async with load(hurt, RATE, seed=7) as sent:
                await asyncio.sleep(2)
                await asyncio.to_thread(postgres.stop)
                await asyncio.sleep(2)
                seconds = await asyncio.to_thread(worker.stop)
                assert seconds < 15
                worker.start()  # and starts while it is down
                await asyncio.sleep(2)
                postgres.start()
                await asyncio.to_thread(postgres.wait_ready)
                await asyncio.sleep(1)
            await hurt.settled()
            print(f"{await check(hurt, sent, heard)}; stopped in {seconds:.1f} s")
