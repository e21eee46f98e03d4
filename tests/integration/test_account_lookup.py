"""The gateways' accounts in a real PostgreSQL: rows as they are asked for, many at once, over an outage."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from app.core.routing.mqtt_acl import AclAction, AclRule
from app.core.routing.tokens import PREFIX, digest
from app.errors import TransientError
from app.local.servers.postgres import Postgres
from app.ports import Account, AccountRow
from app.postgres.accounts import lookup as lookups
from app.postgres.accounts.lookup import AccountLookup
from app.postgres.connect import Connection
from app.postgres.queries import gateway_tokens
from app.postgres.queries.mqtt_accounts import AccountTable
from app.postgres.schema.init_sql import apply
from app.settings import Settings

pytestmark = pytest.mark.integration

PASSWORD = "a good password"
TOKEN, BOUND, ENDED, OF_CAROL = (PREFIX + letter * 43 for letter in "abcd")


def settings(dsn: str) -> Settings:
    return Settings().model_copy(update={"database_url": SecretStr(dsn)})


@pytest.fixture
async def owner(database: str) -> AsyncIterator[Connection]:
    """With accounts of each kind, and tokens."""
    connection = await asyncpg.connect(database)
    table = AccountTable(connection)
    publish = AclRule("carol", "allow", AclAction.PUBLISH, "users/+/devices/+/telemetry", 10)
    await table.add("alice", None, PASSWORD, [])
    await table.add("bound", "bound:truck", PASSWORD, [])
    await table.add("several", "truck-*", PASSWORD, [])
    await table.add("carol", None, PASSWORD, [publish])
    await table.add("alice-truck", None, PASSWORD, [], ("alice", "truck"))
    await gateway_tokens.add(connection, TOKEN, "alice", None, "", None)
    await gateway_tokens.add(connection, BOUND, "alice", "truck", "", 3600)
    await gateway_tokens.add(connection, OF_CAROL, "carol", "truck", "", None)
    await gateway_tokens.add(connection, ENDED, "alice", None, "", -1)
    yield connection
    await connection.close()


@pytest.fixture
async def lookup(owner: Connection, database: str) -> AsyncIterator[AccountLookup]:
    """Of the test's database."""
    await owner.execute("ALTER ROLE iot_gateway PASSWORD 'g4teway'")
    made = AccountLookup(settings(database))
    yield made
    await made.close()


def may(row: AccountRow | None) -> set[str]:
    """Of some topics, the topics that the account may publish to."""
    topics = ("users/alice/devices/truck/telemetry", "users/alice/devices/car/telemetry", "users/alice/config",
              "iot/alice/truck/telemetry", "users/bob/devices/truck/telemetry")  # fmt: skip
    assert row is not None
    return {topic for topic in topics if row.account.may_publish(topic)}


TRUCK = {"users/alice/devices/truck/telemetry", "iot/alice/truck/telemetry"}


async def test_accounts_of_each_kind(lookup: AccountLookup) -> None:
    assert not lookup.answers
    alice = await lookup.named("alice")
    assert may(alice) == {*TRUCK, "users/alice/devices/car/telemetry", "users/alice/config"}
    assert may(await lookup.named("alice-truck")) == TRUCK
    assert "users/bob/devices/truck/telemetry" in may(await lookup.named("carol"))
    bound, several = await lookup.named("bound"), await lookup.named("several")
    assert bound is not None
    assert several is not None
    assert (bound.account.device_id, several.account.device_prefix) == ("truck", "truck-")
    assert await lookup.named("nobody") is None
    assert await lookup.named("alice' OR 'x'='x") is None
    assert lookup.answers
    assert alice is not None
    other = await lookup.named("bound")
    assert other is not None
    assert alice.account.rules is other.account.rules, "accounts with equal rules share them"


async def test_tokens(lookup: AccountLookup, owner: Connection) -> None:
    free, bound, ended = [await lookup.of_token(digest(token)) for token in (TOKEN, BOUND, ENDED)]
    assert may(free) == {*TRUCK, "users/alice/devices/car/telemetry", "users/alice/config"}
    assert may(bound) == TRUCK
    assert may(await lookup.of_token(digest(OF_CAROL))) == set(), "carol may publish for other users, her truck may not"
    assert free is not None
    assert bound is not None
    assert ended is not None
    assert free.ends is None
    assert bound.ends is not None
    assert ended.ends is not None
    assert ended.ends < bound.ends
    assert await lookup.of_token(digest("something else")) is None
    await owner.execute("DELETE FROM gateway_tokens WHERE token_hash = $1", digest(TOKEN))
    assert await lookup.of_token(digest(TOKEN)) is None


async def test_many_at_once_are_a_few_questions(lookup: AccountLookup, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = lookup._names.question

    async def counted(connection: Connection, names: Sequence[str]) -> dict[str, AccountRow]:
        asked.append(len(names))
        return await real(connection, names)

    monkeypatch.setattr(lookup._names, "question", counted)
    names = [*(f"nobody-{number}" for number in range(2500)), *["alice"] * 500]
    found = await asyncio.gather(*(lookup.named(name) for name in names))
    assert found[:2500] == [None] * 2500
    assert all(row is not None and row.account.user_id == "alice" for row in found[2500:])
    assert len(asked) <= 5
    assert max(asked) <= lookups.AT_ONCE
    assert sum(asked) == 2501, "each name once"


async def test_the_account_of_the_gateways_is_enough(lookup: AccountLookup, database: str) -> None:
    host = database.rpartition("@")[2]
    one = AccountLookup(settings(f"postgresql://iot_gateway:g4teway@{host}"))
    try:
        assert may(await one.named("alice-truck")) == TRUCK
        assert may(await one.of_token(digest(BOUND))) == TRUCK
    finally:
        await one.close()


async def test_an_outage_is_reported_at_once_and_ends(server_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "ANSWER_SECONDS", 2.0)
    server = Postgres(server_dir)
    server.start()
    server.wait_ready()
    await apply(server.dsn)
    connection = await asyncpg.connect(server.dsn)
    await AccountTable(connection).add("alice", None, PASSWORD, [])
    await connection.close()
    made = AccountLookup(settings(server.dsn))
    try:
        row = await made.named("alice")
        assert row is not None
        assert row.account == Account("alice", rules=row.account.rules)
        server.kill()
        began = asyncio.get_running_loop().time()
        for _ in range(200):
            with pytest.raises(TransientError):
                await made.named("alice")
        assert asyncio.get_running_loop().time() - began < 5, "nobody waits for what was away a moment ago"
        assert not made.answers
        server.start()
        server.wait_ready()
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await made.named("alice") is not None
                    break
                except TransientError:
                    await asyncio.sleep(0.1)
        assert made.answers
    finally:
        await made.close()
        server.stop()


async def test_a_connection_that_has_died_meanwhile_is_no_outage(lookup: AccountLookup, owner: Connection) -> None:
    assert await lookup.named("alice") is not None
    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'iot-stream gateway'"
    )
    assert await owner.fetchval(ended)
    assert await lookup.named("alice") is not None


async def test_a_schema_that_is_older_is_an_outage_with_its_cure(
    lookup: AccountLookup, owner: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    await owner.execute("ALTER TABLE mqtt_users DROP COLUMN device_id")
    with pytest.raises(TransientError):
        await lookup.named("alice")
    assert "db init" in capsys.readouterr().out
