"""deploy/postgres/accounts.sql: passwords from files, and MQTT accounts as EMQX asks for them."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from app.adapters.schema import INIT_SQL
from app.adapters.schema import apply as apply_schema
from app.core.mqtt_topics import is_own_output
from app.local import postgres_home
from app.local.postgres import Postgres
from tests import servers
from tests.documents import ROOT

SQL = ROOT / "deploy" / "postgres" / "accounts.sql"
EMQX = (ROOT / "deploy" / "emqx" / "emqx.conf").read_text()
NAMES = re.findall(r"cat :secrets/(\w+)", SQL.read_text())
AUTHENTICATION, AUTHORIZATION = re.findall(r'query = "([^"]+)"', EMQX)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed: apt-get install postgresql-client"),
]


def query(template: str) -> str:
    """EMQX's placeholders as parameters, as EMQX prepares it."""
    return template.replace("${username}", "$1::text").replace("${clientid}", "$2::text")


def apply(database: str, secrets: Path) -> subprocess.CompletedProcess[str]:
    """Run the script with psql, as the stack does."""
    command = ["psql", "-X", "-q", "-v", f"secrets={secrets}", "-f", str(SQL), database]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server that has pgcrypto, as TimescaleDB's image has: the system's, since the wheel's comes without."""
    system = [path for path in postgres_home._installed() if "site-packages" not in str(path)]
    with pytest.MonkeyPatch.context() as patch, servers.server_directory() as directory:
        patch.setattr(postgres_home, "_installed", lambda: system)
        if not system:
            pytest.skip("the system's PostgreSQL is not installed: apt-get install postgresql")
        server = Postgres(directory)
        server.start()
        try:
            server.wait_ready()
            yield server
        finally:
            server.stop()


@pytest.fixture
async def database(server: Postgres, unique: str) -> str:
    """URL of a database with init.sql applied, roles and all."""
    connection = await asyncpg.connect(server.dsn)
    try:
        if not await connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'pgcrypto'"):
            pytest.skip("the system's PostgreSQL has no pgcrypto: apt-get install postgresql-contrib")
        await connection.execute(f"CREATE DATABASE {unique}")
    finally:
        await connection.close()
    await apply_schema(server.dsn_of(unique), INIT_SQL)
    return server.dsn_of(unique)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_text(f"a password of {name}'s \\ own\n")
    return tmp_path


async def test_accounts(database: str, secrets: Path) -> None:
    assert len(NAMES) == 6
    for _ in range(2):
        done = apply(database, secrets)
        assert (done.returncode, done.stderr) == (0, "")
    (secrets / "bridge_mqtt_password").write_text("another password\n")
    assert apply(database, secrets).returncode == 0
    connection = await asyncpg.connect(database)
    try:
        await check_mqtt(connection, secrets)
        configured = await connection.fetchval("SELECT rolconfig FROM pg_roles WHERE rolname = 'iot_worker'")
        assert "statement_timeout=60s" in configured
        scram = await connection.fetch("SELECT rolname FROM pg_authid WHERE rolpassword LIKE 'SCRAM-SHA-256$%'")
        assert {"iot_worker", "iot_notifier", "emqx_ro"} <= {row["rolname"] for row in scram}
    finally:
        await connection.close()


async def check_mqtt(connection: "asyncpg.Connection[asyncpg.Record]", secrets: Path) -> None:
    """What EMQX would find."""
    for user, client, name in (
        ("vector_bridge", "vector-bridge-1", "vector_mqtt_password"),
        ("iot_bridge", "anything", "bridge_mqtt_password"),
        ("iot_notifier", "iot-notifier-1", "notifier_mqtt_password"),
    ):
        (found,) = await connection.fetch(query(AUTHENTICATION), user, client)
        password = (secrets / name).read_text().strip()
        assert await connection.fetchval("SELECT crypt($1, $2) = $2", password, found["password_hash"])
        assert not found["is_superuser"]
        rows = await connection.fetch(query(AUTHORIZATION), user, client)
        may = {row["topic"] for row in rows if (row["permission"], row["action"]) == ("allow", "subscribe")}
        assert not any(is_own_output(topic.replace("+", "x")) for topic in may if "${" not in topic)
    assert await connection.fetch(query(AUTHENTICATION), "vector_bridge", "another") == []
    assert await connection.fetch(query(AUTHENTICATION), "iot_bridge", "+") == [], "a client id must not be a wildcard"


async def test_a_missing_password_is_refused(database: str, secrets: Path) -> None:
    (secrets / "bridge_mqtt_password").unlink()
    done = apply(database, secrets)
    assert done.returncode == 3
    assert "a password is shorter than 12 characters, or its file is missing" in done.stderr
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM mqtt_users") == 0
    finally:
        await connection.close()
