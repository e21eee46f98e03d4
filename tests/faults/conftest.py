"""What the tests that hurt things share."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from app.local.servers.kafka import Kafka
from app.local.servers.mosquitto import Mosquitto
from app.local.servers.postgres import Postgres
from tests.conftest import INIT_SQL
from tests.servers import KafkaServer, MqttServer, server_directory
from tests.workers import Site
from tools.faults.away import Servers
from tools.faults.load import RULES

NO_BUDGET = {"alerts_per_minute": 0}  # every alert is counted


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    """Topics and rules of this test alone."""
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, NO_BUDGET)
    await made.prepare(RULES)
    return made


@pytest.fixture(scope="session")
def breakable() -> Iterator[Servers]:
    """Servers of the session that tests may hurt, and bring back."""
    with server_directory() as directory:
        made = Servers(Kafka(directory / "kafka"), Postgres(directory / "postgres"), Mosquitto(directory / "mosquitto"))
        every = (made.kafka, made.postgres, made.mosquitto)
        try:
            for server in every:
                server.start()
            for server in every:
                server.wait_ready()
            yield made
        finally:
            for server in every:
                server.stop()


@pytest.fixture
async def fragile(breakable: Servers, unique: str, tmp_path: Path) -> Site:
    """Topics, rules and a database of this test alone on servers that may be hurt."""
    for dsn, sql in (
        (breakable.postgres.dsn, f"CREATE DATABASE {unique}"),
        (breakable.postgres.dsn_of(unique), INIT_SQL.read_text()),
    ):
        connection = await asyncpg.connect(dsn)
        await connection.execute(sql)
        await connection.close()
    more = {"breaker_reset_min": 1, "breaker_reset_max": 2, "bridge_share": "-", **NO_BUDGET}
    made = Site(
        breakable.kafka.bootstrap, breakable.postgres.dsn_of(unique), breakable.mosquitto, unique, tmp_path, more
    )
    await made.prepare(RULES)
    return made
