"""user_configs, followed on a real server."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import asyncpg
import pytest
from pydantic import SecretStr

from app.core.user_config.last_known_good import ConfigRevision
from app.postgres.connect import Connection
from app.postgres.queries.config_feed import ConfigFeed
from app.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    if not connection.is_closed():
        await connection.close()


def table(database: str, compare_seconds: float = 60) -> ConfigFeed:
    return ConfigFeed(Settings(database_url=SecretStr(database), rules_poll=0.05), compare_seconds=compare_seconds)


def follow(database: str, compare_seconds: float = 60) -> AsyncGenerator[list[ConfigRevision], None]:
    return table(database, compare_seconds).changes()


@pytest.fixture
async def changes(database: str) -> AsyncIterator[AsyncIterator[list[ConfigRevision]]]:
    following = follow(database)
    yield following
    await following.aclose()


async def following(changes: AsyncIterator[list[ConfigRevision]]) -> list[tuple[str, str | None]]:
    """The next changes: user and configuration."""
    return [one[:2] for one in await asyncio.wait_for(anext(changes), 10)]


PUT = "INSERT INTO user_configs (user_id, rules) VALUES ($1, $2::jsonb) ON CONFLICT (user_id) DO UPDATE SET rules = $2"


async def test_all_first_then_what_changes(admin: Connection, changes: AsyncIterator[list[ConfigRevision]]) -> None:
    await admin.execute(PUT, "u1", "[1]")
    await admin.execute(PUT, "u2", "[2]")
    assert await following(changes) == [("u1", "[1]"), ("u2", "[2]")]
    await admin.execute(PUT, "u2", "[3]")
    assert await following(changes) == [("u2", "[3]")]
    await admin.execute(PUT, "u2", "[3]")  # no change
    await admin.execute(PUT, "u3", "[]")
    assert await following(changes) == [("u3", "[]")]


async def test_maintenance_comes_with_the_rules(
    admin: Connection, changes: AsyncIterator[list[ConfigRevision]]
) -> None:
    await admin.execute(PUT, "u1", "[1]")
    assert await following(changes) == [("u1", "[1]")]
    await admin.execute("UPDATE user_configs SET maintenance = '[2]'")
    assert await following(changes) == [("u1", '{"rules": [1], "maintenance": [2]}')]


async def test_a_user_who_changes_large_rules_again_and_again_waits_and_nobody_else(
    admin: Connection, changes: AsyncIterator[list[ConfigRevision]]
) -> None:
    large = [f'["{letter * 100_000}"]' for letter in "abc"]
    await admin.execute(PUT, "u1", large[0])
    assert await following(changes) == [("u1", large[0])]
    await admin.execute(PUT, "u1", large[1])
    await admin.execute(PUT, "u2", "[1]")
    assert await following(changes) == [("u2", "[1]")]
    await admin.execute(PUT, "u1", large[2])
    await admin.execute(PUT, "u2", "[2]")
    assert await following(changes) == [("u2", "[2]")]
    assert await following(changes) == [("u1", large[2])]  # the last one, once its time has come


async def test_an_empty_table_is_yielded_too(changes: AsyncIterator[list[ConfigRevision]]) -> None:
    assert await following(changes) == []


async def test_a_deleted_row_means_no_rules(admin: Connection, changes: AsyncIterator[list[ConfigRevision]]) -> None:
    await admin.execute(PUT, "u1", "[1]")
    await following(changes)
    await admin.execute("DELETE FROM user_configs")
    assert await following(changes) == [("u1", None)]
    await admin.execute(PUT, "u1", "[1]")
    assert await following(changes) == [("u1", "[1]")]


async def test_a_change_that_commits_late_is_seen(
    database: str, admin: Connection, changes: AsyncIterator[list[ConfigRevision]]
) -> None:
    await admin.execute(PUT, "u1", "[1]")
    await following(changes)
    other = await asyncpg.connect(database)
    transaction = other.transaction()
    await transaction.start()
    await other.execute(PUT, "u1", "[2]")
    await asyncio.sleep(0.1)
    await admin.execute(PUT, "u2", "[3]")  # newer, and visible first
    assert await following(changes) == [("u2", "[3]")]
    await transaction.commit()
    await other.close()
    assert await following(changes) == [("u1", "[2]")]


async def test_a_change_that_commits_very_late_is_found_by_comparing(database: str, admin: Connection) -> None:
    changes = follow(database, compare_seconds=0.2)
    await admin.execute(PUT, "u1", "[1]")
    await following(changes)
    await admin.execute("ALTER TABLE user_configs DISABLE TRIGGER user_configs_touch")
    await admin.execute("UPDATE user_configs SET rules = '[2]', updated_at = updated_at - interval '1 hour'")
    assert await following(changes) == [("u1", "[2]")]
    await changes.aclose()


async def test_an_outage_is_waited_out(
    database: str, admin: Connection, changes: AsyncIterator[list[ConfigRevision]]
) -> None:
    await admin.execute(PUT, "u1", "[1]")
    await following(changes)
    waiting = asyncio.ensure_future(following(changes))
    await asyncio.sleep(0.1)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'iot-stream rules' "
        "AND datname = current_database()"
    )
    await asyncio.sleep(0.2)
    await admin.execute(PUT, "u1", "[2]")
    assert await waiting == [("u1", "[2]")]


async def test_what_was_taken_is_noted_for_whoever_starts_later(database: str, admin: Connection) -> None:
    await admin.execute(PUT, "u1", "[1.50]")
    await admin.execute(PUT, "u2", "[2]")
    followed = table(database)
    changes = followed.changes()
    found = await asyncio.wait_for(anext(changes), 10)
    assert [one.accepted for one in found] == [None, None]
    followed.take(found)
    await admin.execute(PUT, "u2", "[3]")  # before it is noted: whoever takes that notes that
    (later,) = await asyncio.wait_for(anext(changes), 10)
    assert (later.user_id, later.text, later.accepted) == ("u2", "[3]", None)
    before = await admin.fetch("SELECT user_id, updated_at FROM user_configs WHERE user_id = 'u1'")
    await admin.execute(PUT, "u1", "[4]")
    (later,) = await asyncio.wait_for(anext(changes), 10)
    assert (later.text, later.accepted) == ("[4]", "[1.50]")
    assert before[0]["updated_at"] == found[0].updated_at, "noting it is no edit"
    await changes.aclose()
