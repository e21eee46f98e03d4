"""COPY straight into the table, on real servers: when rows go that way, what becomes of them when it fails, and what a
stream with duplicates costs.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from app.core.batch.copy_policy import FIRST, PartitionEpoch
from app.core.batch.effects import Effect, Statement, WriteResult
from app.core.model.records import Row
from app.postgres.store.direct_copy import BUFFERED_ROWS
from app.postgres.store.store import TimescaleStore
from tests.contract.postgres.test_store import EDITED, LOG, START, alert, row
from tests.integration.stores import ReportedEvents, connected, count, opened, waiting_backend
from tests.pgbouncer import transaction_mode

pytestmark = pytest.mark.integration

ORIGIN = PartitionEpoch(0, 1)
SIZE = 1200
Expected = tuple[WriteResult, int, int]  # the answer, rows that were copied, COPYs that failed


def batch(number: int, size: int = SIZE) -> list[Row]:
    return [row(number * 10_000 + n) for n in range(size)]


class Partition:
    """Writes of one partition, one after another, and which way each has gone."""

    def __init__(self, store: TimescaleStore, reported: ReportedEvents) -> None:
        self.store, self.reported = store, reported

    async def write(self, rows: Sequence[Row], effects: Sequence[Effect] = (), epoch: int = 1) -> Expected:
        copied, failed = len(self.reported.copied_rows), len(self.reported.dead_rows)
        written = await self.store.write(rows, effects, PartitionEpoch(0, epoch))
        return written, sum(self.reported.copied_rows[copied:]), len(self.reported.dead_rows) - failed


async def test_rows_go_straight_in_once_a_batch_was_clean(database: str) -> None:
    reported = ReportedEvents()
    async with opened(database, reported, direct_copy_min_rows=100) as store:
        partition = Partition(store, reported)
        assert await partition.write(batch(0)) == (WriteResult(SIZE), 0, 0)
        assert await partition.write(batch(1)) == (WriteResult(SIZE), SIZE, 0)
        assert await partition.write(batch(2), [alert(31)]) == (WriteResult(SIZE), SIZE, 0)
        assert await partition.write(batch(3, 99)) == (WriteResult(99), 0, 0)  # too small to be worth it
        assert await store.write(batch(4)) == WriteResult(SIZE)  # from nowhere known
        assert await partition.write(batch(5), epoch=2) == (WriteResult(SIZE), 0, 0)  # after a rebalance
        assert sum(reported.copied_rows) == 2 * SIZE
    assert await count(database) == 5 * SIZE + 99


async def test_a_duplicate_stages_its_batch_and_those_after_it(database: str) -> None:
    reported = ReportedEvents()
    async with opened(database, reported) as store:
        partition = Partition(store, reported)
        await partition.write(batch(0))
        with_duplicates = [*batch(1), *batch(0)[5:8]]
        assert await partition.write(with_duplicates) == (WriteResult(SIZE, 3), 0, 1)
        for number in range(2, 2 + FIRST):
            assert await partition.write(batch(number)) == (WriteResult(SIZE), 0, 0)
        assert await partition.write(batch(20)) == (WriteResult(SIZE), SIZE, 0)
        assert reported.failed == []
    assert await count(database) == (3 + FIRST) * SIZE


async def test_rows_that_repeat_one_another_are_found_without_the_database(database: str) -> None:
    reported = ReportedEvents()
    async with opened(database, reported) as store:
        partition = Partition(store, reported)
        await partition.write([*batch(0), *batch(0)[:3]])
        assert await partition.write([*batch(1), *batch(1)[:2]]) == (WriteResult(SIZE, 2), SIZE, 0)
    assert await count(database) == 2 * SIZE


async def test_a_bad_row_is_refused_as_ever(database: str) -> None:
    reported = ReportedEvents()
    async with opened(database, reported) as store, connected(database) as admin:
        await admin.execute("ALTER TABLE raw_telemetry ADD CHECK (battery < 1000)")
        partition = Partition(store, reported)
        changes: tuple[dict[str, Any], ...] = (
            {"battery": 2000},
            {"extra_data": '{"a":"\\u0000"}'},
            {"user_id": "a\0b"},
            {"sequence_id": 2**63},
            {"user_id": None},
        )
        for epoch, change in enumerate(changes):
            bad = row(900_000, **change)
            await partition.write(batch(3 * epoch), epoch=epoch)
            written, copied, failed = await partition.write([*batch(3 * epoch + 1), bad], epoch=epoch)
            assert (written.rows, [index for index, _ in written.refused], copied, failed) == (SIZE, [SIZE], 0, 1)
            assert written == await store.write([*batch(3 * epoch + 2), bad])  # staged
        bad_effect = Effect(Statement.UPSERT_CONFIG, ("u2", '["\\u0000"]', None, EDITED, *LOG))
        await partition.write(batch(50), epoch=99)
        written, copied, failed = await partition.write(batch(51), [alert(31), bad_effect], epoch=99)
        assert (written.rows, [index for index, _ in written.refused_effects]) == (SIZE, [1])
        assert (copied, failed, reported.failed) == (0, 1, [])


UNFIT = {
    "row-level security": "ALTER TABLE raw_telemetry ENABLE ROW LEVEL SECURITY",
    "another type": "ALTER TABLE raw_telemetry ALTER battery TYPE bigint",
    "a type that casts round": "ALTER TABLE raw_telemetry ALTER temperature TYPE numeric",
}


@pytest.mark.parametrize("change", UNFIT.values(), ids=UNFIT)
async def test_a_table_that_copy_does_not_fit_is_never_copied_into(database: str, change: str) -> None:
    reported = ReportedEvents()
    async with connected(database) as admin:
        await admin.execute(change)
    async with opened(database, reported) as store:
        partition = Partition(store, reported)
        for number in range(3):
            assert await partition.write(batch(number)) == (WriteResult(SIZE), 0, 0)
        assert reported.failed == []


async def test_a_column_that_gets_another_type_under_way_is_stored_as_ever(database: str) -> None:
    """COPY takes eight bytes for eight bytes: those of a double for a bigint."""
    reported = ReportedEvents()
    async with opened(database, reported, writes_in_flight=1) as store, connected(database) as admin:
        partition = Partition(store, reported)
        await partition.write(batch(0))
        assert await partition.write(batch(1)) == (WriteResult(SIZE), SIZE, 0)
        await admin.execute("ALTER TABLE raw_telemetry ALTER temperature TYPE bigint")
        assert await partition.write(batch(2)) == (WriteResult(SIZE), 0, 1)
        found = await admin.fetch("SELECT DISTINCT temperature FROM raw_telemetry")
        assert [one["temperature"] for one in found] == [22]  # of 21.5


async def test_a_repeated_key_with_a_bad_value_is_refused_as_ever(database: str) -> None:
    reported = ReportedEvents()
    async with opened(database, reported) as store, connected(database) as admin:
        await admin.execute("ALTER TABLE raw_telemetry ADD CHECK (battery < 1000)")
        partition = Partition(store, reported)
        await partition.write(batch(0))
        bad = (*batch(1)[0][:5], 2000.0, *batch(1)[0][6:])
        written, copied, failed = await partition.write([*batch(1), bad])
        assert (written.rows, written.duplicates, copied, failed) == (SIZE, 0, 0, 0)
        assert [index for index, _ in written.refused] == [SIZE]


async def test_rows_that_a_trigger_leaves_out_count_as_they_do_staged(database: str) -> None:
    reported = ReportedEvents()
    async with connected(database) as admin:
        await admin.execute("""CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW.battery = 7 THEN RETURN NULL; END IF; RETURN NEW; END $$;
            CREATE TRIGGER skip BEFORE INSERT ON raw_telemetry FOR EACH ROW EXECUTE FUNCTION skip()""")
    async with opened(database, reported, direct_copy_min_rows=2, writes_in_flight=1) as store:
        origins = [PartitionEpoch(partition, 1) for partition in range(4)]
        for partition, origin in enumerate(origins):
            await store.write(batch(partition, 3), (), origin)
        rows = [[row(70_000 + 10 * n + m, battery=7 if m == n else 80) for m in range(3)] for n in range(4)]
        answers = await asyncio.gather(*(store.write(rows[n], (), origins[n]) for n in range(4)))
        assert answers == [WriteResult(2, 1)] * 3 + [WriteResult(3)]
        assert reported.dead_rows == [12]  # they were tried together
        assert await store.write(batch(9), (), PartitionEpoch(9, 1)) == WriteResult(SIZE)
        skipped = [*batch(10), row(1_000_000, battery=7)]
        assert await store.write(skipped, (), PartitionEpoch(9, 1)) == WriteResult(SIZE, 1)
    assert await count(database) == 4 * 3 + 9 + 2 * SIZE


async def test_a_key_of_another_table_refuses_the_row_as_ever(database: str) -> None:
    reported = ReportedEvents()
    async with connected(database) as admin:
        await admin.execute("""CREATE TABLE seen (sequence_id bigint PRIMARY KEY);
            CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO seen VALUES (NEW.sequence_id); RETURN NULL; END $$;
            CREATE TRIGGER note AFTER INSERT ON raw_telemetry FOR EACH ROW EXECUTE FUNCTION note();
            INSERT INTO seen VALUES (10005)""")
    async with opened(database, reported) as store:
        partition = Partition(store, reported)
        await partition.write(batch(0))
        written, copied, failed = await partition.write(batch(1))
        assert (written.rows, [index for index, _ in written.refused], copied, failed) == (SIZE - 1, [5], 0, 1)
        assert written.refused[0][1].startswith("23505")


async def test_any_unique_key_counts_as_a_duplicate(database: str) -> None:
    reported = ReportedEvents()
    async with connected(database) as admin:
        await admin.execute("CREATE UNIQUE INDEX ON raw_telemetry (time, battery) WHERE battery > 100")
    async with opened(database, reported) as store:
        partition = Partition(store, reported)
        await partition.write([*batch(0), row(5_000_000, battery=101)])
        again = [*batch(1), row(5_000_001, battery=101)]
        assert await partition.write(again) == (WriteResult(SIZE, 1), 0, 1)


async def test_a_write_that_met_an_outage_is_staged(database: str) -> None:
    """Its rows may be stored: whether they are, only the staged way counts."""
    reported = ReportedEvents()
    effect = Effect(Statement.UPSERT_CONFIG, ("u1", "[]", None, EDITED, *LOG))
    async with opened(database, reported) as store, connected(database) as other, connected(database) as watcher:
        partition = Partition(store, reported)
        await partition.write(batch(0))
        lock = other.transaction()
        await lock.start()
        await other.execute("LOCK TABLE user_configs")
        write = asyncio.create_task(partition.write(batch(1), [effect]))  # rows are copied, the effect waits
        first = await waiting_backend(watcher)
        await watcher.execute("SELECT pg_terminate_backend($1)", first)
        await waiting_backend(watcher, but=first)
        await lock.rollback()
        assert await asyncio.wait_for(write, 10) == (WriteResult(SIZE), 0, 0)
        assert await partition.write(batch(2)) == (WriteResult(SIZE), SIZE, 0)
    assert await count(database) == 3 * SIZE


async def test_a_copy_waits_for_whoever_stores_the_same_row(database: str) -> None:
    reported = ReportedEvents()
    async with opened(database, reported) as store, connected(database) as other, connected(database) as watcher:
        partition = Partition(store, reported)
        await partition.write(batch(0))
        lock = other.transaction()
        await lock.start()
        await other.execute("INSERT INTO raw_telemetry VALUES ($1, $2, $3, $4)", *row(10_000 + 700)[:4])
        write = asyncio.create_task(partition.write(batch(1)))
        await waiting_backend(watcher)
        await lock.commit()
        assert await asyncio.wait_for(write, 10) == (WriteResult(SIZE - 1, 1), 0, 1)


@pytest.mark.parametrize("at", [0, 900, 2500, 4999])
async def test_dead_rows_are_no_more_than_reported(database: str, at: int) -> None:
    reported = ReportedEvents()
    async with opened(database, reported) as store, connected(database) as admin:
        partition = Partition(store, reported)
        await admin.execute("ALTER TABLE raw_telemetry SET (autovacuum_enabled = false)")
        await partition.write(batch(0))
        known = row(1_000_000)
        await store.write([known])
        rows = batch(1, 4999)
        rows.insert(at, known)
        assert await partition.write(rows) == (WriteResult(4999, 1), 0, 1)
        (dead,) = reported.dead_rows
        assert dead == min(len(rows), (at // BUFFERED_ROWS + 1) * BUFFERED_ROWS)
    async with connected(database) as admin:  # what a backend counted is seen once it has ended
        async with asyncio.timeout(30):
            counted = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'raw_telemetry'"
            while not (found := await admin.fetchval(counted)):  # noqa: ASYNC110 - nothing notifies us
                await asyncio.sleep(0.05)
        assert 0 < found <= dead


@pytest.mark.parametrize("pooled", [False, True], ids=["PostgreSQL", "PgBouncer"])
async def test_a_stream_with_one_duplicate_in_a_hundred_is_stored_as_it_is_staged(database: str, pooled: bool) -> None:
    """Exactly the same answers, with one COPY more than the staged way makes: the first that goes straight in."""
    chance, reported = Random(1), ReportedEvents()
    sent: list[Row] = []
    stream: list[list[Row]] = [batch(0, 500)]  # clean, as a stream is before its device begins to send again
    for number in range(1, 41):
        sent += stream[-1]
        rows = batch(number, 500)
        for at in range(0, 500, 100):
            rows[at + chance.randrange(100)] = chance.choice(sent)
        stream.append(rows)
    known: set[tuple[Any, ...]] = set()
    expected = []
    for rows in stream:
        new = {one[:4] for one in rows} - known
        known |= new
        expected.append(WriteResult(len(new), len(rows) - len(new)))
    if pooled:
        with transaction_mode(database) as dsn:
            answers = await _written(dsn, reported, stream, database_statement_cache=False)
    else:
        answers = await _written(database, reported, stream)
    assert answers == expected
    assert len(reported.dead_rows) == 1
    assert sum(reported.dead_rows) <= 500
    assert await count(database) == len(known)


async def _written(
    dsn: str, reported: ReportedEvents, stream: Sequence[list[Row]], **changes: Any
) -> list[WriteResult]:
    async with opened(dsn, reported, **changes) as store:
        return [await store.write(rows, (), ORIGIN) for rows in stream]


async def test_late_rows_are_staged_and_live_rows_beside_them_go_straight_in(database: str) -> None:
    reported = ReportedEvents()
    async with opened(database, reported, late_after=3600.0) as store:
        partition = Partition(store, reported)

        def mixed(number: int) -> list[Row]:
            now = datetime.now(UTC)
            return [row(number * 10_000 + n, time=now if n % 2 else START) for n in range(SIZE)]

        assert await partition.write(mixed(0)) == (WriteResult(SIZE), 0, 0)
        assert await partition.write(mixed(1)) == (WriteResult(SIZE), SIZE // 2, 0)
        replayed = [*mixed(2), *mixed(0)[:1]]  # the late one is there already: nothing that live rows wait for
        assert await partition.write(replayed) == (WriteResult(SIZE, 1), SIZE // 2, 0)
        assert await partition.write(mixed(3)) == (WriteResult(SIZE), SIZE // 2, 0)
