"""The slow lane, on plain PostgreSQL.

A trigger stands in for TimescaleDB's tuple decompression limit: each row older than a day "unpacks" as many tuples as
the table `unpacked` says, and a transaction that passes timescaledb.max_tuples_decompressed_per_dml_transaction
(100,000 unless set; 0: no limit) ends with the same SQLSTATE and words.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.core.batch.effects import Effect, Statement, WriteResult
from app.core.model.records import Row
from app.postgres.circuit_breaker import BreakerState
from app.postgres.connect import Connection
from tests.contract.postgres.test_store import EDITED, LOG, row
from tests.integration.stores import ReportedEvents, connected, count, opened, until, waiting_backend

pytestmark = pytest.mark.integration

LIMIT = """
CREATE TABLE unpacked (tuples integer NOT NULL, hard boolean NOT NULL);
CREATE FUNCTION unpack() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  most integer := coalesce(nullif(current_setting('timescaledb.max_tuples_decompressed_per_dml_transaction', true), ''),
                           '100000');
  total integer := coalesce(nullif(current_setting('test.unpacked', true), ''), '0');
  fixed boolean;
BEGIN
  IF NEW.time < now() - interval '1 day' THEN
    SELECT total + tuples, hard INTO total, fixed FROM unpacked;
    PERFORM set_config('test.unpacked', total::text, true);
    IF fixed OR (most > 0 AND total > most) THEN
      RAISE 'tuple decompression limit exceeded by operation' USING ERRCODE = '53400';
    END IF;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER unpack BEFORE INSERT ON raw_telemetry FOR EACH ROW EXECUTE FUNCTION unpack();
"""
LONG_AGO = datetime.now(UTC) - timedelta(days=30)
HOUR: dict[str, Any] = {"late_after": 3600.0}


def live(number: int, **changes: Any) -> Row:
    """A row of today."""
    return row(number, time=datetime.now(UTC) - timedelta(minutes=1), **changes)


def late(number: int, **changes: Any) -> Row:
    """A row of last month, of one of 50 devices."""
    return row(number, time=LONG_AGO, device_id=f"d{number % 50}", **changes)


@pytest.fixture
async def limited(database: str) -> AsyncIterator[Connection]:
    """A connection to a database with the limit; old rows unpack nothing yet."""
    async with connected(database) as admin:
        await admin.execute(LIMIT)
        await admin.execute("INSERT INTO unpacked VALUES (0, false)")
        yield admin


async def test_late_rows_go_in_small_transactions_of_their_own(database: str) -> None:
    reported = ReportedEvents()
    async with opened(database, reported, late_batch_rows=100, **HOUR) as store:
        rows = [late(n) if n % 2 else live(n) for n in range(1000)]
        config = Effect(Statement.UPSERT_CONFIG, ("u1", "[]", None, EDITED, *LOG))
        assert await store.write(rows, [config]) == WriteResult(1000, 0)
        assert sorted(reported.written) == [100] * 5 + [500]
        assert await store.write(rows) == WriteResult(0, 1000)
        bad = [late(n) if n % 2 else live(n) for n in range(1000, 1300)]
        bad[7], bad[8] = late(1, extra_data="}"), live(2, extra_data="{")
        written = await store.write(bad)
        assert (written.rows, [index for index, _ in written.refused]) == (298, [7, 8])
        assert all(words.startswith("extra_data: 22P02") for _, words in written.refused)
    assert await count(database) == 1298


async def test_pieces_shrink_to_stay_within_the_limit(database: str, limited: Connection) -> None:
    await limited.execute("UPDATE unpacked SET tuples = 1000")  # so 100 rows a transaction
    reported = ReportedEvents()
    async with opened(database, reported, **HOUR) as store:
        assert await store.write([late(n) for n in range(2000)]) == WriteResult(2000, 0)
        assert max(reported.written) <= 100
        assert (reported.failed, reported.operator, store.breaker_state) == ([], [], BreakerState.CLOSED)


async def test_the_smallest_piece_passes_the_limit(database: str, limited: Connection) -> None:
    await limited.execute("UPDATE unpacked SET tuples = 10_000")  # so 10 rows a transaction
    reported = ReportedEvents()
    async with opened(database, reported, late_batch_rows=200, **HOUR) as store:
        rows = [late(n) for n in range(200)]
        rows[60] = late(60, extra_data="}")
        written = await store.write(rows)
        assert (written.rows, [index for index, _ in written.refused]) == (199, [60])
        assert reported.failed == []


async def test_a_limit_that_holds_is_waited_out_while_live_rows_go_on(database: str, limited: Connection) -> None:
    await limited.execute("UPDATE unpacked SET hard = true")
    reported = ReportedEvents()
    async with opened(database, reported, breaker_failures=2, **HOUR) as store:
        held = [asyncio.create_task(store.write([late(n), live(n)])) for n in range(3)]
        await until(lambda: len(reported.failed) > 2)  # more than open the breaker
        for n in range(10, 30):
            assert await asyncio.wait_for(store.write([live(n)]), 5) == WriteResult(1, 0)
        assert not any(write.done() for write in held)
        assert (store.breaker_state, reported.breaker, await store.ready()) == (BreakerState.CLOSED, [], True)
        assert "53400" in store.advice["late rows"]
        assert "max_tuples_decompressed" in reported.operator[0]
        await limited.execute("UPDATE unpacked SET hard = false")
        assert await asyncio.wait_for(asyncio.gather(*held), 10) == [WriteResult(2, 0)] * 3
        assert store.advice == {}
    assert await count(database) == 26


async def test_a_lock_that_late_rows_wait_for_holds_nobody_else(database: str) -> None:
    reported = ReportedEvents()
    settings = {"database_timeout": 0.5, "breaker_failures": 2} | HOUR
    async with opened(database, reported, **settings) as store, connected(database) as other:
        await store.write([live(1000), late(1000)])  # TimescaleDB makes their chunks
        lock = other.transaction()
        await lock.start()
        await other.execute("INSERT INTO raw_telemetry VALUES ($1, $2, $3, $4)", *late(0)[:4])
        held = asyncio.create_task(store.write([late(0)]))
        await until(lambda: len(reported.failed) > 2)
        for n in range(20):
            assert await asyncio.wait_for(store.write([live(n)]), 5) == WriteResult(1, 0)
        assert (held.done(), reported.breaker) == (False, [])
        await lock.rollback()
        assert await asyncio.wait_for(held, 10) == WriteResult(1, 0)


async def test_live_rows_that_meet_the_limit_go_the_same_way(database: str, limited: Connection) -> None:
    await limited.execute("UPDATE unpacked SET tuples = 1000")
    reported = ReportedEvents()
    config = Effect(Statement.UPSERT_CONFIG, ("u1", "[]", None, EDITED, *LOG))
    async with opened(database, reported) as store:  # none is late by age
        answers = await asyncio.gather(
            store.write([late(n) for n in range(1000)], [config]),
            *(store.write([late(n)]) for n in range(1000, 1200)),  # these writes share transactions
        )
        assert (answers[0], sum(answer.rows for answer in answers)) == (WriteResult(1000, 0), 1200)
        assert (reported.failed, store.breaker_state) == ([], BreakerState.CLOSED)
    assert await limited.fetchval("SELECT count(*) FROM user_configs") == 1


async def test_an_outage_holds_late_rows_too(database: str) -> None:
    reported = ReportedEvents()
    async with opened(database, reported, late_batch_rows=50, **HOUR) as store, connected(database) as other:
        lock = other.transaction()
        await lock.start()
        await other.execute("INSERT INTO raw_telemetry VALUES ($1, $2, $3, $4)", *late(199)[:4])
        write = asyncio.create_task(store.write([late(n) for n in range(200)]))
        async with connected(database) as watcher:
            await watcher.execute("SELECT pg_terminate_backend($1)", await waiting_backend(watcher))
        await until(lambda: bool(reported.failed))
        await lock.rollback()
        assert await asyncio.wait_for(write, 10) == WriteResult(200, 0)


async def test_give_up_ends_a_late_write_between_its_pieces(database: str) -> None:
    async with opened(database, late_batch_rows=50, **HOUR) as store, connected(database) as other:
        lock = other.transaction()
        await lock.start()
        await other.execute("INSERT INTO raw_telemetry VALUES ($1, $2, $3, $4)", *late(0)[:4])
        write = asyncio.create_task(store.write([late(n) for n in range(200)]))
        async with connected(database) as watcher:
            await waiting_backend(watcher)
        stop = asyncio.create_task(store.stop())
        await asyncio.sleep(0.1)
        await lock.rollback()
        await asyncio.wait_for(stop, 5)
        with pytest.raises(Exception, match="between two transactions"):
            await write
    assert await count(database) == 50
