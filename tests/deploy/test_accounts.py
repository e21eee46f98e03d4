"""deploy/postgres/accounts.sql: passwords from files, and MQTT accounts as EMQX asks for them."""

import re
import shutil
import tomllib
from pathlib import Path

import asyncpg
import pytest

from app.core.routing.mqtt_topics import is_own_output
from tests.deploy.accounts import NAMES, apply
from tools.documents import ROOT

EMQX = (ROOT / "deploy" / "emqx" / "emqx.conf").read_text()
VECTOR = tomllib.loads((ROOT / "vector.toml").read_text())["sources"]["mqtt_in"]["topic"]
VECTOR_TOPICS = [topic for topic in VECTOR if not topic.startswith("$")]
AUTHENTICATION, AUTHORIZATION = re.findall(r'query = "([^"]+)"', EMQX)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed: apt-get install postgresql-client"),
]


def query(template: str) -> str:
    """EMQX's placeholders as parameters, as EMQX prepares it."""
    return template.replace("${username}", "$1::text").replace("${clientid}", "$2::text")


async def test_accounts(accounts_database: str, secrets: Path) -> None:
    assert len(NAMES) == 8
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
        assert {"iot_worker", "iot_notifier", "iot_gateway", "emqx_ro", "iot_dashboard"} <= {
            row["rolname"] for row in scram
        }
    finally:
        await connection.close()


async def check_mqtt(connection: "asyncpg.Connection[asyncpg.Record]", secrets: Path) -> None:
    """What EMQX would find."""
    for user, client, name in (
        ("vector_bridge", "vector-bridge-1", "vector_mqtt_password"),
        ("iot_bridge", "iot-bridge-0", "bridge_mqtt_password"),
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
    assert await connection.fetch(query(AUTHENTICATION), "iot_bridge", "iot-bridge-+") == [], "a wildcard as id"


async def test_a_bound_client_id_is_for_its_account_alone(accounts_database: str, secrets: Path) -> None:
    assert apply(accounts_database, secrets).returncode == 0
    connection = await asyncpg.connect(accounts_database)
    try:
        await connection.execute("UPDATE mqtt_users SET clientid = NULL WHERE username = 'iot_bridge'")  # as it was
        assert apply(accounts_database, secrets).returncode == 0
        await connection.executemany(
            "INSERT INTO mqtt_users (username, clientid, user_id, password_hash) VALUES ($1, $2, $1, 'x')",
            [("mallory", None), ("bob", "truck-1"), ("carol", "truck-1")],
        )

        async def let_in(username: str, client: str) -> bool:
            return bool(await connection.fetch(query(AUTHENTICATION), username, client))

        for client in ("iot-bridge-1", "iot-bridge-", "iot-notifier-0", "vector-bridge-1", "truck-1", "iot-bridge-*"):
            assert not await let_in("mallory", client), client
        for client in ("iot-bridge", "iot_bridge-1", "vector-bridge-2", "truck-10", "any", "*", "%"):
            assert await let_in("mallory", client), client
        assert await let_in("iot_bridge", "iot-bridge-1")
        assert not await let_in("iot_bridge", "iot-notifier-1")
        assert not await let_in("iot_notifier", "iot-bridge-1")
        assert await let_in("bob", "truck-1"), "what an operator bound twice is not locked for both"
        assert not await let_in("bob", "truck-2")
    finally:
        await connection.close()


async def test_the_user_may_stand_before_the_device_in_a_client_id(accounts_database: str, secrets: Path) -> None:
    """Client ids are global: truck-1 of two users would take the connection from each other."""
    assert apply(accounts_database, secrets).returncode == 0
    connection = await asyncpg.connect(accounts_database)
    try:
        for client, device in (("truck-1", "truck-1"), ("alice:truck-1", "truck-1"), ("bob:truck-1", "bob:truck-1")):
            rows = await connection.fetch(query(AUTHORIZATION), "alice", client)
            # EMQX puts in what is left of the placeholders.
            found = {row["topic"].replace("${username}", "alice").replace("${clientid}", client) for row in rows}
            assert {f"users/alice/devices/{device}/telemetry", f"iot/alice/{device}/telemetry"} <= found
            assert not any("$" in topic for topic in found)
    finally:
        await connection.close()


async def test_retained_messages_are_refused_for_vector_alone(accounts_database: str, secrets: Path) -> None:
    connection = await asyncpg.connect(accounts_database)

    async def retained(account: str = "alice") -> dict[str, int]:
        rows = await connection.fetch(query(AUTHORIZATION), account, "truck-1")
        publish = [row for row in rows if row["action"] == "publish"]
        denied = {row["topic"]: row["retain"] for row in publish if row["permission"] == "deny"}
        if denied:
            assert [row["permission"] for row in publish[: len(denied)]] == ["deny"] * len(denied), "denials first"
        return denied

    try:
        await connection.execute(
            "INSERT INTO mqtt_users (username, user_id, device_id, password_hash)"
            " VALUES ('key', 'alice', 'truck-1', 'x')"
        )
        for _ in range(2):
            assert apply(accounts_database, secrets).returncode == 0
            assert await retained() == await retained("key") == dict.fromkeys(VECTOR_TOPICS, 1)
            assert apply(accounts_database, secrets, vector=0).returncode == 0
            assert await retained() == await retained("key") == {}
    finally:
        await connection.close()


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
