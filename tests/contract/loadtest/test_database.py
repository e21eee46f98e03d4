"""The users of a run in a real database: made with accounts and rules, and removed without a trace."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import bcrypt
import pytest
from pydantic import SecretStr

from app.errors import TransientError
from app.loadtest.database import LoadDatabase
from app.loadtest.plan import LoadPlan
from app.loadtest.schedule import Profile, Schedule
from app.settings import Settings

pytestmark = pytest.mark.integration

PASSWORD = "a password of this run"


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Any]:
    made = await asyncpg.connect(database)
    yield made
    await made.close()


def settings(url: str) -> Settings:
    return Settings(database_url=SecretStr(url), rules_poll=0.1)


def plan(user: str | None = None) -> LoadPlan:
    return LoadPlan(
        "ab12cd", 1 if user else 3, 2, Schedule(Profile.STEADY, 10, 10), user=user, start_us=1_795_226_400_000_000
    )


async def test_users_get_accounts_and_rules_and_leave_nothing_behind(database: str, connection: Any) -> None:
    await connection.execute("INSERT INTO mqtt_users (username, user_id, password_hash) VALUES ('alice', 'alice', 'x')")
    made = LoadDatabase(settings(database), plan())
    await made.prepare(PASSWORD)
    rows = await connection.fetch("SELECT username, user_id, password_hash, clientid FROM mqtt_users WHERE id > 1")
    assert [(row[0], row[1], row[3]) for row in rows] == [
        (f"load-ab12cd-{n}", f"load-ab12cd-{n}", None) for n in (1, 2, 3)
    ]
    assert bcrypt.checkpw(PASSWORD.encode(), rows[0]["password_hash"].encode())
    await connection.execute(
        "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id) VALUES"
        " (to_timestamp(1795226401), 'load-ab12cd-1', 'd', 1), (to_timestamp(1795226401), 'alice', 'd', 1)"
    )
    assert not await rules_taken(made)
    await connection.execute("UPDATE user_configs SET accepted = rules")
    assert await rules_taken(made)
    await made.remove(purge=True)
    for table, left in (("mqtt_users", 1), ("user_configs", 0), ("raw_telemetry", 1)):
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == left, table


async def rules_taken(made: LoadDatabase) -> bool:
    """Whether workers have them; asked once."""
    stop = asyncio.Event()
    stop.set()
    return await made.rules_taken(stop)


async def test_readings_stay_unless_they_are_purged(database: str, connection: Any) -> None:
    made = LoadDatabase(settings(database), plan())
    await made.prepare(None)
    assert await connection.fetchval("SELECT count(*) FROM mqtt_users") == 0
    await connection.execute(
        "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id) VALUES"
        " (to_timestamp(1795226401), 'load-ab12cd-1', 'd', 1)"
    )
    await made.remove(purge=False)
    assert await connection.fetchval("SELECT count(*) FROM raw_telemetry") == 1


async def test_an_existing_user_is_left_alone(database: str, connection: Any) -> None:
    await connection.execute("""INSERT INTO user_configs (user_id, rules) VALUES ('alice', '[{"key": "x"}]')""")
    made = LoadDatabase(settings(database), plan("alice"))
    await made.prepare(None)
    await made.remove(purge=True)
    assert await connection.fetchval("SELECT rules::text FROM user_configs WHERE user_id = 'alice'") == '[{"key": "x"}]'


async def test_no_database_is_one_clear_line() -> None:
    made = LoadDatabase(settings("postgresql://iot:secret@127.0.0.1:1/iot"), plan())
    with pytest.raises(TransientError, match=r"^the database: .*is IOT_DATABASE_URL right") as caught:
        await made.prepare(PASSWORD)
    assert "secret" not in str(caught.value)
