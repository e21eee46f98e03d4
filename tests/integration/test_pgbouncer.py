"""The store and the rules behind a real PgBouncer in transaction mode, with fewer servers than lanes."""

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from app.core.batch.effects import Effect, Statement, WriteResult
from app.postgres.connect import Connection
from app.postgres.queries.config_feed import ConfigFeed
from app.settings import Settings
from tests.contract.postgres.test_store import EDITED, LOG, POISON, alert, row
from tests.integration.stores import ReportedEvents, connected, count, opened, until
from tests.pgbouncer import transaction_mode

pytestmark = pytest.mark.integration


@pytest.fixture
def pooled(database: str) -> Iterator[str]:
    """The database's URL through PgBouncer."""
    with transaction_mode(database) as dsn:
        yield dsn


async def test_many_writers_share_two_servers(database: str, pooled: str) -> None:
    reported = ReportedEvents()
    async with opened(pooled, reported, database_statement_cache=False, writes_in_flight=6) as store:
        sizes = [3, 700] * 20
        batches = [[row(n * 1000 + m) for m in range(size)] for n, size in enumerate(sizes)]
        answers = await asyncio.gather(*(store.write(batch) for batch in batches))
        assert [answer.rows for answer in answers] == sizes
        again = await asyncio.gather(*(store.write(batch) for batch in batches))
        assert [answer.duplicates for answer in again] == sizes
        rows = [row(-n) for n in range(1, 1001)] + list(POISON.values())
        config = Effect(Statement.UPSERT_CONFIG, ("u1", "not JSON", None, EDITED, *LOG))
        written = await store.write(rows, [alert(31), config])
        assert (written.rows, len(written.refused), len(written.refused_effects)) == (1000, len(POISON), 1)
        assert await store.ready()
        assert (reported.failed, reported.operator) == ([], [])
    assert await count(database) == sum(sizes) + 1000


async def test_small_writes_that_share_a_statement(database: str, pooled: str) -> None:
    reported = ReportedEvents()
    async with opened(pooled, reported, database_statement_cache=False, writes_in_flight=6) as store:

        async def writer(number: int) -> None:
            for n in range(8):
                rows = [row(1000 * number + n), row(1000 * number + n + 1)]
                assert await store.write(rows) == (WriteResult(1, 1) if n else WriteResult(2))

        await asyncio.gather(*(writer(number) for number in range(30)))
        assert reported.failed == []
    assert await count(database) == 30 * 9


async def test_late_rows_too(database: str, pooled: str) -> None:
    async with opened(pooled, database_statement_cache=False, late_after=3600, late_batch_rows=100) as store:
        answers = await asyncio.gather(*(store.write([row(n * 1000 + m) for m in range(700)]) for n in range(6)))
        assert answers == [WriteResult(700, 0)] * 6
    assert await count(database) == 4200


async def noted(admin: Connection, rules: str) -> None:
    """Wait until the workers have noted that these rules took effect."""
    async with asyncio.timeout(10):
        while await admin.fetchval("SELECT accepted FROM user_configs") != rules:  # noqa: ASYNC110 - others change it
            await asyncio.sleep(0.02)


async def test_rules_are_followed(database: str, pooled: str) -> None:
    settings = Settings(database_url=SecretStr(pooled), rules_poll=0.05, database_statement_cache=False)
    tables = [ConfigFeed(settings, compare_seconds=0.1) for _ in range(4)]
    followed = [table.changes() for table in tables]
    try:
        assert [await asyncio.wait_for(anext(changes), 10) for changes in followed] == [[]] * 4
        async with connected(database) as admin:
            for rules in ("[1]", "[2]", "[3]"):
                await admin.execute(
                    "INSERT INTO user_configs VALUES ('u1', $1::jsonb) ON CONFLICT (user_id) DO UPDATE SET rules = $1",
                    rules,
                )
                for table, changes in zip(tables, followed, strict=True):
                    (found,) = await asyncio.wait_for(anext(changes), 10)
                    assert found.text == rules
                    table.take([found])
            waiting = [asyncio.ensure_future(anext(changes)) for changes in followed]
            await noted(admin, "[3]")
            for one in waiting:
                one.cancel()
            await asyncio.wait(waiting)
    finally:
        for changes in followed:
            await changes.aclose()


@pytest.fixture
def hasty(database: str) -> Iterator[str]:
    """The database's URL through a PgBouncer that soon says that there is no database."""
    with transaction_mode(database, patience=1) as dsn:
        yield dsn


async def test_the_database_goes_away_behind_it(database: str, hasty: str) -> None:
    reported = ReportedEvents()
    async with opened(hasty, reported, database_statement_cache=False) as store, connected(database) as admin:
        name = await admin.fetchval("SELECT current_database()")
        assert await store.write([row(0)]) == WriteResult(1, 0)
        async with connected(database.replace(name, "postgres")) as other:
            await admin.close()
            await other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            await other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
            writes = [asyncio.create_task(store.write([row(n)])) for n in range(1, 10)]
            await until(lambda: "opened" in reported.breaker, 30)
            assert not any(write.done() for write in writes)
            await other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            answers = await asyncio.wait_for(asyncio.gather(*writes), 30)
        assert answers == [WriteResult(1, 0)] * 9
    assert await count(database) == 10


async def test_the_wrong_setting_is_named(pooled: str) -> None:
    reported = ReportedEvents()
    async with opened(pooled, reported) as store:
        writes = [asyncio.create_task(store.write([row(n)])) for n in range(6)]
        await until(lambda: bool(reported.operator), 30)
        assert "IOT_DATABASE_STATEMENT_CACHE=false" in reported.operator[0]
        for write in writes:
            write.cancel()
        await asyncio.wait(writes)
