"""deploy/postgres/accounts.sql: passwords from files, and MQTT accounts as EMQX asks for them."""

import re
import shutil
from pathlib import Path

import asyncpg
import pytest

from app.core.mqtt_topics import is_own_output
from tests.deploy.accounts import NAMES, apply
from tests.documents import ROOT

EMQX = (ROOT / "deploy" / "emqx" / "emqx.conf").read_text()
AUTHENTICATION, AUTHORIZATION = re.findall(r'query = "([^"]+)"', EMQX)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed: apt-get install postgresql-client"),
]


def query(template: str) -> str:
    """EMQX's placeholders as parameters, as EMQX prepares it."""
    return template.replace("${username}", "$1::text").replace("${clientid}", "$2::text")


async def test_accounts(accounts_database: str, secrets: Path) -> None:
    assert len(NAMES) == 6
    for _ in range(2):
        done = apply(accounts_database, secrets)
        assert (done.returncode, done.stderr) == (0, "")
    (secrets / "bridge_mqtt_password").write_text("another password\n")
    assert apply(accounts_database, secrets).returncode == 0
    connection = await asyncpg.connect(accounts_database)
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


async def test_a_missing_password_is_refused(accounts_database: str, secrets: Path) -> None:
    (secrets / "bridge_mqtt_password").unlink()
    done = apply(accounts_database, secrets)
    assert done.returncode == 3
    assert "a password is shorter than 12 characters, or its file is missing" in done.stderr
    connection = await asyncpg.connect(accounts_database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM mqtt_users") == 0
    finally:
        await connection.close()
