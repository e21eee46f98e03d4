"""`iot-stream db migrate|status` on a real PostgreSQL: every way to the schema ends at the same one, also in use."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from app.errors import PermanentError, TransientError
from app.postgres.connect import Connection
from app.postgres.schema import init_sql
from app.postgres.schema import migrate as migrations
from app.postgres.schema.migrate import Migration, known, migrate, status
from tests.conftest import INIT_SQL
from tests.servers import PostgresServer
from tests.workers import ROOT

pytestmark = pytest.mark.integration

STEPS = known()
LOOKS = {
    "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
    " WHERE table_schema = 'public'",
    "constraints": "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "triggers": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "functions": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE 'iot\\_%'",
    "grants": "SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants"
    " WHERE table_schema = 'public' AND (grantee LIKE 'iot\\_%' OR grantee LIKE 'emqx%')",
    "rules": "SELECT username, clientid, permission, action, topic, qos, retain, priority FROM mqtt_acl",
    "comments": "SELECT obj_description('mqtt_acl'::regclass)",
    "steps": "SELECT version, name, checksum FROM iot_migrations",
}


async def look(connection: Connection) -> dict[str, list[str]]:
    """All that makes the schema, whatever the order of its making."""
    return {name: sorted(str(tuple(row)) for row in await connection.fetch(sql)) for name, sql in LOOKS.items()}


@pytest.fixture
async def made(postgres: PostgresServer, unique: str) -> AsyncIterator[list[str]]:
    """URLs of three empty databases."""
    admin = await asyncpg.connect(postgres.dsn)
    names = [f"{unique}{letter}" for letter in "abc"]
    for name in names:
        await admin.execute(f"CREATE DATABASE {name}")
    yield [postgres.dsn_of(name) for name in names]
    for name in names:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def test_every_way_ends_at_the_same_schema(made: list[str]) -> None:
    fresh, stepwise, upgraded = made
    await init_sql.apply(fresh)
    async with opened(fresh) as one, opened(stepwise) as two, opened(upgraded) as three:
        assert await migrate(one, STEPS) == [], "init.sql has taken all of them"
        expected = await look(one)
        assert len(expected["columns"]) > 50
        assert len(expected["grants"]) > 40
        assert await migrate(two, STEPS) == STEPS
        assert await look(two) == expected
        await three.execute(STEPS[0].sql)  # version 0.1.0, which knew of no steps
        assert await migrate(three, STEPS) == STEPS[1:]
        assert await look(three) == expected
        assert await migrate(three, STEPS) == []


DATA = """
INSERT INTO raw_telemetry SELECT date_trunc('day', now()) - n * interval '1 s', 'alice', 'truck', n, n / 7.0, n % 100,
  jsonb_build_object('n', n) FROM generate_series(1, 2000) n;
INSERT INTO user_configs (user_id, rules)
  VALUES ('alice', '[{"key": "temperature", "operator": ">", "threshold": 80}]');
INSERT INTO active_alerts (user_id, device_id, rule_id, alert_id, severity, message, value, threshold, first_seen,
  last_seen, state)
  VALUES ('alice', 'truck', 'temperature', 'a1', 'warning', 'too hot', 91.5, 80, now(), now(), 'FIRING');
INSERT INTO alert_history (alert_id, status, user_id, device_id, rule_id, event, sent_at)
  VALUES ('a1', 'FIRING', 'alice', 'truck', 'temperature', '{"alert_id": "a1"}', now());
INSERT INTO device_status (device_key, user_id, device_id, status, last_seen)
  VALUES ('alice/truck', 'alice', 'truck', 'online', now());
INSERT INTO mqtt_users (username, user_id, password_hash) VALUES ('alice', 'alice', 'x');
INSERT INTO mqtt_acl (username, permission, action, topic) VALUES ('dash', 'allow', 'subscribe', 'users/+/alerts');
"""
OF_THE_FLEET = ("raw_telemetry", "user_configs", "active_alerts", "alert_history", "device_status", "mqtt_users")


async def rows(connection: Connection, columns: dict[str, list[str]]) -> dict[str, list[str]]:
    """All rows of the tables, of these columns."""
    return {
        table: sorted(map(str, await connection.fetch(f"SELECT {', '.join(names)} FROM {table}")))
        for table, names in columns.items()
    }


async def test_what_the_first_release_has_stored_stays(made: list[str]) -> None:
    """Row by row and column by column; and what it stored is a duplicate still."""
    async with opened(made[0]) as connection:
        await connection.execute(STEPS[0].sql)
        await connection.execute(DATA)
        names = "SELECT column_name FROM information_schema.columns WHERE table_name = $1 ORDER BY 1"
        columns = {table: [row[0] for row in await connection.fetch(names, table)] for table in OF_THE_FLEET}
        before = await rows(connection, columns)
        assert await migrate(connection, STEPS) == STEPS[1:]
        assert await rows(connection, columns) == before
        assert [len(before[table]) for table in OF_THE_FLEET] == [2000, 1, 1, 1, 1, 1]
        assert await connection.fetchval("SELECT count(*) FROM mqtt_acl WHERE username = 'dash'") == 1
        again = "INSERT INTO raw_telemetry SELECT * FROM raw_telemetry ON CONFLICT DO NOTHING"
        assert await connection.execute(again) == "INSERT 0 0"


async def test_a_database_that_init_sql_has_upgraded(made: list[str]) -> None:
    fresh, other, _ = made
    await init_sql.apply(fresh)
    async with opened(fresh) as one, opened(other) as two:
        await two.execute(STEPS[0].sql)
        await init_sql.apply(other)
        assert [state.applied for state in await status(two, STEPS)] == [None] * len(STEPS)
        assert await migrate(two, STEPS) == STEPS[1:]
        assert await look(two) == await look(one)


async def test_an_operators_rules_stay(made: list[str]) -> None:
    async with opened(made[0]) as connection:
        await migrate(connection, STEPS[:2])
        await connection.execute("DELETE FROM mqtt_acl WHERE topic LIKE '%/errors'")
        await connection.execute("DELETE FROM mqtt_acl WHERE topic LIKE '%/status'")
        await migrate(connection, STEPS)
        assert await connection.fetch("SELECT FROM mqtt_acl WHERE topic LIKE '%/errors' OR topic LIKE '%/status'") == []


async def test_several_at_once(made: list[str]) -> None:
    async def one() -> list[Migration]:
        async with opened(made[0]) as connection:
            return await migrate(connection, STEPS)

    taken = await asyncio.gather(*(one() for _ in range(4)))
    assert sorted(map(len, taken)) == [0, 0, 0, len(STEPS)]


async def test_a_step_that_fails_leaves_what_went_before(made: list[str]) -> None:
    steps = [
        Migration(1, "one", "CREATE TABLE kept (n int)"),
        Migration(2, "two", "CREATE TABLE gone (n int); SELECT 1/0"),
    ]
    async with opened(made[0]) as connection:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(connection, steps)
        assert [state.applied is None for state in await status(connection, steps)] == [False, True]
        assert await connection.fetchval("SELECT to_regclass('gone')") is None
        mended = [steps[0], Migration(2, "two", "CREATE TABLE there (n int)")]
        assert await migrate(connection, mended) == mended[1:]


async def test_what_does_not_fit_is_refused(made: list[str]) -> None:
    steps = [Migration(1, "one", "CREATE TABLE a (n int)"), Migration(2, "two", "CREATE TABLE b (n int)")]
    async with opened(made[0]) as connection:
        await migrate(connection, steps)
        changed = [steps[0], Migration(2, "two", "CREATE TABLE other (n int)")]
        with pytest.raises(PermanentError, match="0002 two: the file was changed"):
            await migrate(connection, changed)
        with pytest.raises(PermanentError, match="0002 two: unknown to this program, which is older"):
            await migrate(connection, steps[:1])


async def test_a_table_in_use(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A step waits for whoever uses its table, and lets sessions behind it pass every three seconds."""
    dsn = made[0]
    async with opened(dsn) as connection, opened(dsn) as user, opened(dsn) as writer:
        await migrate(connection, STEPS[:1])
        reading = user.transaction()
        await reading.start()
        await user.fetch("SELECT count(*) FROM alert_history")
        task = asyncio.create_task(migrate(connection, STEPS))
        longest, until = 0.0, time.monotonic() + 6
        while time.monotonic() < until:
            began = time.monotonic()
            await writer.execute(
                "INSERT INTO alert_history (alert_id, status, user_id, device_id, rule_id)"
                " VALUES (gen_random_uuid()::text, 'FIRING', 'u', 'd', 'r')"
            )
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.05)
        assert not task.done()
        assert 0.5 < longest < 30, "the write had to wait, but not for the whole time"
        await reading.rollback()
        assert await asyncio.wait_for(task, 60) == STEPS[1:]
        monkeypatch.setattr(migrations, "TRIES", 1)
        reading = user.transaction()
        await reading.start()
        await user.fetch("SELECT count(*) FROM alert_history")
        step = Migration(len(STEPS) + 1, "late", "ALTER TABLE alert_history ADD COLUMN late int")
        with pytest.raises(TransientError, match="late: a table it changes was in use"):
            await migrate(connection, [*STEPS, step])
        await reading.rollback()


def command(dsn: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "IOT_DATABASE_URL": dsn}
    words = [sys.executable, "-m", "app", "db", *arguments]
    return subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


async def test_the_commands(made: list[str]) -> None:
    first, second, _ = made
    names = [str(step) for step in STEPS]
    before = await asyncio.to_thread(command, first, "status")
    assert (before.returncode, before.stdout.count("not yet")) == (1, len(STEPS))
    done = await asyncio.to_thread(command, first, "migrate")
    assert (done.returncode, done.stdout) == (0, "".join(f"migrated {name}\n" for name in names)), done.stderr
    assert (await asyncio.to_thread(command, first, "migrate")).stdout == "up to date\n"
    after = await asyncio.to_thread(command, first, "status", "--json")
    assert after.returncode == 0
    assert [one["version"] for one in json.loads(after.stdout) if one["applied"]] == [step.version for step in STEPS]
    assert (await asyncio.to_thread(command, second, "init")).stdout == "applied init.sql\n"
    assert (await asyncio.to_thread(command, second, "status")).returncode == 0
    gone = await asyncio.to_thread(command, "postgresql://nobody@127.0.0.1:1/x", "status")
    assert (gone.returncode, gone.stderr.startswith("iot-stream: db status: ")) == (1, True)


def test_a_step_is_one_transaction() -> None:
    for step in STEPS:
        assert not re.search(r"^\s*(BEGIN|COMMIT|ROLLBACK)\s*;", step.sql, re.M), step
        assert "CONCURRENTLY" not in step.sql


def test_which_steps_only_add() -> None:
    assert [step.version for step in STEPS if step.adds_only] == [1, 4, 5, 6, 8, 11, 12, 13, 14]
    for sql in ("DROP INDEX i", "delete from t", "UPDATE t SET a = 1", "ALTER TABLE t ALTER COLUMN a TYPE text"):
        assert not Migration(1, "x", f"CREATE TABLE t (a int);\n{sql};").adds_only
    assert Migration(1, "x", "-- DROP TABLE t\nGRANT SELECT, UPDATE, DELETE ON t TO r;").adds_only


def test_init_sql_says_what_it_comes_to() -> None:
    listed = re.findall(r"\((\d+), '(\w+)', '([0-9a-f]{64})'\)", INIT_SQL.read_text())
    assert listed == [(str(step.version), step.name, step.checksum) for step in STEPS]


@pytest.mark.parametrize(
    "names", [("0002_a.sql",), ("0001_a.sql", "0003_b.sql"), ("one.sql",), ("0001_a.sql", "0001_b.sql")]
)
def test_names_of_files(tmp_path: Path, names: Sequence[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(PermanentError, match="numbered without gaps"):
        known(tmp_path)
