"""Every SQL of the dashboards on a real PostgreSQL with the real schema, as the role that Grafana has."""

import re
import shutil
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from app.postgres.connect import Connection
from tests.deploy import dashboards
from tests.deploy.accounts import apply

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed: apt-get install postgresql-client"),
]
ROLE = "iot_dashboard"
USER, DEVICE = "o'brien", "it's $1 \\ %s"  # a device may be called anything

ASKED = {one.where: one.target["rawSql"] for one in dashboards.targets("postgres")} | {
    f"variable {variable['name']}": variable["query"]
    for variable in dashboards.dashboard("telemetry")["templating"]["list"]
    if variable["type"] == "query"
}
SERIES = {one.where for one in dashboards.targets("postgres") if one.target["format"] == "time_series"}


def expanded(sql: str) -> str:
    """As Grafana sends it: variables first, then macros, for the last hour in steps of 30 s."""
    now = datetime.now(UTC)
    begin, end = (f"'{time.isoformat()}'" for time in (now - timedelta(hours=1), now + timedelta(seconds=1)))
    for name, value in (("user", USER), ("device", DEVICE)):
        sql = sql.replace(f"${{{name}:sqlstring}}", "'" + value.replace("'", "''") + "'")
    sql = sql.replace("$__interval", "30s")
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {begin} AND {end}", sql)
    sql = re.sub(r"\$__timeGroupAlias\((\w+), 30s\)", r'floor(extract(epoch from \1)/30)*30 AS "time"', sql)
    sql = sql.replace("$__timeTo()", end).replace("$__timeFrom()", begin)
    assert not re.search(r"\$__|\$\{", sql), sql
    return sql


@pytest.fixture
async def reader(accounts_database: str, secrets: Path) -> AsyncIterator[Connection]:
    """A connection as the role of the dashboards, with its password, to a database with something of everything."""
    done = apply(accounts_database, secrets)
    assert (done.returncode, done.stderr) == (0, "")
    owner = await asyncpg.connect(accounts_database)
    try:
        await fill(owner)
    finally:
        await owner.close()
    made = await asyncpg.connect(**as_reader(accounts_database, secrets))
    try:
        yield made
    finally:
        await made.close()


def as_reader(database: str, secrets: Path) -> dict[str, Any]:
    """How Grafana connects: with the password of its file."""
    at = urlsplit(database)
    password = (secrets / "grafana_db_password").read_text().strip()
    return {"host": at.hostname, "port": at.port, "database": at.path[1:], "user": ROLE, "password": password}


async def fill(owner: Connection) -> None:
    """Readings with every kind of field, alerts, presence, averages."""
    now = datetime.now(UTC)
    extra = [
        '{"speed": 3, "name": "x", "nested": {"a": 1}, "huge": 1e400, "list": [1], "none": null}',
        "{}",
        '{"speed": 5}',
    ]
    await owner.executemany(
        "INSERT INTO raw_telemetry VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [
            (now - timedelta(seconds=10 * n), user, device, n, temperature, 80 - n, extra[n])
            for user, device in ((USER, DEVICE), ("bob", DEVICE), (USER, "another"))
            for n, temperature in enumerate((20.0, None, 40.0))
        ],
    )
    alert = (USER, DEVICE, "temperature", "id", "critical", "hot", 91.5, 80.0, now, now)
    for number, state in enumerate(("FIRING", "SNOOZED")):
        await owner.execute(
            "INSERT INTO active_alerts (user_id, device_id, rule_id, alert_id, severity, message, value, threshold,"
            " first_seen, last_seen, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            *alert[:2], f"rule{number}", *alert[3:], state,
        )  # fmt: skip
    await owner.execute(
        "INSERT INTO alert_history (alert_id, status, user_id, device_id, rule_id, severity, held_at)"
        " VALUES ('id', 'FIRING', $1, $2, 'temperature', 'critical', now())", USER, DEVICE,
    )  # fmt: skip
    await owner.executemany(
        "INSERT INTO device_status (device_key, user_id, device_id, status, last_seen) VALUES ($1, $2, $3, $4, $5)",
        [("1", USER, DEVICE, "online", now), ("2", USER, "another", "offline", now - timedelta(hours=2))],
    )
    await owner.execute(
        "INSERT INTO rolling_averages VALUES ($1, $2, 'temperature', 300, now(), 3, 30, 20, 40)", USER, DEVICE
    )


@pytest.mark.parametrize("where", ASKED)
async def test_every_query_answers(reader: Connection, where: str) -> None:
    rows = await reader.fetch(expanded(ASKED[where]))
    assert rows, "there is something of everything"
    if where in SERIES:
        assert list(rows[0].keys()) == ["time", "metric", "value"]
        assert {type(row["value"]) for row in rows} <= {float}
        assert all(abs(float(row["time"]) - time.time()) < 3600 for row in rows)
        assert all(str(row["metric"]).startswith(DEVICE) for row in rows), "of the chosen device of the chosen user"


async def test_what_some_of_them_say(reader: Connection) -> None:
    async def said(panel: str) -> list[tuple[Any, ...]]:
        (sql,) = (text for where, text in ASKED.items() if panel in where)
        return [tuple(row.values()) for row in await reader.fetch(expanded(sql))]

    assert {value for _, _, value in await said("Temperature")} <= {20.0, 30.0, 40.0}
    fields = {(metric, value) for _, metric, value in await said("Other fields")}
    assert {metric for metric, _ in fields} == {f"{DEVICE} speed"}, "numbers alone, and none that is none"
    assert await said("telemetry: Open alerts A") == [(1,)]
    assert await said("operations: Open alerts A") == [(1,)]
    assert await said("telemetry: Offline A") == [(1,)]
    assert await said("Held for a digest") == [(1,)]
    assert {row[:3] for row in await said("Top talkers")} == {
        (USER, DEVICE, 3),
        ("bob", DEVICE, 3),
        (USER, "another", 3),
    }
    ((share,),) = await said("Connections of the database")
    assert 0 < share < 1
    assert await said("variable user") == [(name,) for name in sorted(("bob", USER))]
    assert await said("variable device") == [(name,) for name in sorted(("another", DEVICE))]


async def test_a_name_is_never_sql(reader: Connection) -> None:
    """Every variable is quoted where it is used: a user may be called what would end the text."""
    for sql in ASKED.values():
        assert re.findall(r"\$\{?(?:user|device)(?!:sqlstring)\b", sql) == [], sql


TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
READ = {"raw_telemetry", "active_alerts", "alert_history", "device_status", "rolling_averages", "muted_alerts"}


async def test_the_role_reads_what_it_shows_and_writes_nothing(
    reader: Connection, accounts_database: str
) -> None:  # fmt: skip
    owner = await asyncpg.connect(accounts_database)
    tables = {row[0] for row in await owner.fetch(TABLES)}
    await owner.close()
    assert tables > READ | {"mqtt_users", "user_configs"}
    assert await reader.fetchval("SHOW default_transaction_read_only") == "on"
    assert await reader.fetchval("SHOW statement_timeout") == "30s"
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await reader.execute("CREATE TABLE mine (a int)")
    await reader.execute("SET default_transaction_read_only = off")  # allowed, and there is no right all the same
    for table in tables:
        for sql in (
            f"INSERT INTO {table} DEFAULT VALUES", f"DELETE FROM {table}", f"TRUNCATE {table}", f"DROP TABLE {table}",
            f"UPDATE {table} SET {'time = time' if table == 'raw_telemetry' else 'user_id = user_id'}",
            f"ALTER TABLE {table} ADD COLUMN x int",
        ):  # fmt: skip
            if table in ("gateway_tokens", "iot_migrations", "mqtt_acl") and sql.startswith("UPDATE"):
                continue  # these tables have no such column
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(sql)
        if table in READ:
            await reader.fetch(f"SELECT * FROM {table} LIMIT 1")
        else:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.fetch(f"SELECT * FROM {table} LIMIT 1")
    for sql in ("CREATE TABLE mine (a int)", "CREATE SCHEMA mine", "CREATE ROLE mine", "SET temp_file_limit = -1"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(sql)
