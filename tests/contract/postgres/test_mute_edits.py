"""Mutes in PostgreSQL: which edit counts, what goes, and that no configuration over MQTT is the worse for them."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from app.core.batch.effects import Effect, Statement
from app.core.rules.mutes import compile_mutes, read_mutes
from app.postgres.connect import Connection
from app.postgres.queries.alert_lists import muted_alerts
from app.postgres.store.mute_edits import MUTES_MAX
from app.postgres.store.store import TimescaleStore
from app.settings import Settings

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(microsecond=0)
RULES = '[{"key": "a", "operator": ">", "threshold": 1, "message": "m"}]'


@pytest.fixture
async def store(database: str) -> AsyncIterator[TimescaleStore]:
    made = TimescaleStore(Settings(database_url=SecretStr(database)), asyncio.Event())
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


def mute(rule_id: str, device_id: str, second: int = 0, until: float | None = None, user: str = "u") -> Effect:
    """Muted at that second from now on; `until` seconds later."""
    since = NOW + timedelta(seconds=second)
    entry: dict[str, Any] = {"rule_id": rule_id, "device_id": device_id, "since": since.isoformat()}
    entry |= {"until": (since + timedelta(seconds=until)).isoformat() if until else None, "by": "ann", "comment": "c"}
    return Effect(Statement.UPSERT_MUTE, (user, rule_id, device_id, json.dumps(entry), since))


def unmute(rule_id: str, device_id: str, second: int) -> Effect:
    return Effect(Statement.DELETE_MUTE, ("u", rule_id, device_id, NOW + timedelta(seconds=second)))


async def kept(admin: Connection) -> list[tuple[str, str, int]]:
    """Rule, device and second of each mute, the newest first."""
    text = await admin.fetchval("SELECT mutes::text FROM user_configs WHERE user_id = 'u'")
    found = read_mutes(text)
    assert compile_mutes(found) is not None
    return [(one.rule_id, one.device_id, round((one.since - NOW).total_seconds())) for one in found]


async def test_the_later_edit_counts(store: TimescaleStore, admin: Connection) -> None:
    await store.write([], [mute("hot", "*", 1), mute("*", "d", 2), mute("hot", "*", 3)])
    assert await kept(admin) == [("hot", "*", 3), ("*", "d", 2)]
    await store.write([], [mute("hot", "*", 2), unmute("hot", "*", 2), unmute("*", "other", 9)])
    assert await kept(admin) == [("hot", "*", 3), ("*", "d", 2)]
    await store.write([], [unmute("hot", "*", 4), unmute("hot", "*", 4)])
    assert await kept(admin) == [("*", "d", 2)]


async def test_what_is_over_goes_with_the_next(store: TimescaleStore, admin: Connection) -> None:
    await store.write([], [mute("hot", "*", 0, until=5), mute("*", "d", 1, until=100), mute("low", "*", 6)])
    assert await kept(admin) == [("low", "*", 6), ("*", "d", 1)]


async def test_a_user_has_so_many_and_no_more(store: TimescaleStore, admin: Connection) -> None:
    await store.write([], [mute("*", f"d{number}", number) for number in range(MUTES_MAX + 2)])
    found = await kept(admin)
    assert (len(found), found[0][1], found[-1][1]) == (MUTES_MAX, f"d{MUTES_MAX + 1}", "d2")


@pytest.mark.parametrize("retained", [False, True])
async def test_configurations_are_taken_as_if_there_were_no_mute(
    store: TimescaleStore, admin: Connection, retained: bool
) -> None:
    """Also a retained configuration, which is for a user without any, and one that came in before the mute."""
    earlier = NOW - timedelta(days=1)
    config = Effect(Statement.UPSERT_CONFIG, ("u", RULES, None, earlier, 0, 1, True))
    if retained:
        config = Effect(Statement.INSERT_CONFIG, ("u", RULES, None, earlier, None))
    await store.write([], [mute("*", "*")])
    before = await admin.fetchval("SELECT updated_at FROM user_configs")
    await store.write([], [config])
    assert json.loads(await admin.fetchval("SELECT rules FROM user_configs")) == json.loads(RULES)
    assert await kept(admin) == [("*", "*", 0)]
    assert await admin.fetchval("SELECT updated_at FROM user_configs") > before
    other = Effect(Statement.INSERT_CONFIG, ("u", "[]", None, NOW, None))
    await store.write([], [other, mute("*", "d", 1)])
    assert json.loads(await admin.fetchval("SELECT rules FROM user_configs")) == json.loads(RULES)


async def test_a_mute_is_no_edit_of_the_rules_and_reaches_those_who_poll(
    store: TimescaleStore, admin: Connection
) -> None:
    await admin.execute("INSERT INTO user_configs (user_id, rules) VALUES ('u', $1)", RULES)
    sql = "SELECT updated_at, edited_at FROM user_configs"
    (before,) = await admin.fetch(sql)
    await store.write([], [mute("*", "*")])
    (after,) = await admin.fetch(sql)
    assert (after["updated_at"] > before["updated_at"], after["edited_at"]) == (True, before["edited_at"])
    await store.write([], [unmute("*", "*", -1)])
    assert await admin.fetch(sql) == [after]


async def test_the_list_of_what_is_muted(store: TimescaleStore, admin: Connection) -> None:
    def muted(device: str, until: datetime | None, way: str) -> Effect:
        return Effect(Statement.UPSERT_MUTED_ALERT, ("u", device, "hot", NOW, until, "bob", "", way))

    gone = Effect(Statement.DELETE_MUTED_ALERT, ("u", "d3", "hot", ""))
    effects = [muted("d1", None, ""), muted("d1", NOW + timedelta(hours=1), "iot"), muted("d2", NOW, ""), gone]
    await store.write([], [mute("*", "d", -9), mute("hot", "*", -8, user="v"), muted("d3", None, ""), *effects])
    found = [
        (one.user_id, one.device_id, one.rule_id, one.by, one.way) for one in await muted_alerts(admin, None, None)
    ]
    assert found == [
        ("u", "d", "*", "ann", ""), ("v", "*", "hot", "ann", ""),
        ("u", "d1", "hot", "bob", ""), ("u", "d1", "hot", "bob", "iot"),
    ]  # fmt: skip
    assert [one.device_id for one in await muted_alerts(admin, "v", "hot")] == ["*"]
