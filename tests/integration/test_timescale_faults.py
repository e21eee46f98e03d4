"""The store against a real server that is killed, stopped, locked, and that refuses."""

import asyncio
import random
import string
import time
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from app.core.batch.effects import Effect, Statement, WriteResult
from app.errors import TransientError
from app.local.servers.postgres import Postgres
from app.postgres.circuit_breaker import BreakerState
from app.postgres.connect import Connection
from app.postgres.schema import init_sql
from app.postgres.store.store import TimescaleStore
from app.settings import Settings
from tests.contract.postgres.test_store import EDITED, LOG, START, row
from tests.integration.stores import ReportedEvents, as_role, connected, count, opened, until, waiting_backend
from tests.servers import PostgresServer

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("rows", [3, 1200])
async def test_a_backend_killed_in_mid_write_doubles_nothing(database: str, rows: int) -> None:
    batch = [row(n) for n in range(rows)]
    effect = Effect(Statement.UPSERT_CONFIG, ("u1", "[]", None, EDITED, *LOG))
    async with opened(database) as store, connected(database) as other, connected(database) as watcher:
        lock = other.transaction()
        await lock.start()
        await other.execute("LOCK TABLE user_configs")
        write = asyncio.create_task(store.write(batch, [effect]))  # rows are in, the effect waits
        first = await waiting_backend(watcher)
        await watcher.execute("SELECT pg_terminate_backend($1)", first)
        await waiting_backend(watcher, but=first)  # the next try has come as far
        await lock.rollback()
        assert await asyncio.wait_for(write, 10) == WriteResult(rows, 0)
        assert await count(database) == rows


async def test_a_connection_that_ended_while_nobody_wrote_is_no_outage(database: str) -> None:
    reported = ReportedEvents()
    async with opened(database, reported) as store, connected(database) as watcher:
        large = [[row(n) for n in range(1000 * part, 1000 * part + 1000)] for part in range(3)]
        await asyncio.gather(*(store.write(rows) for rows in large))  # each lane has connected
        ended = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
        ours = " WHERE application_name ~ 'stream store' AND datname = current_database()"
        assert await watcher.fetchval(ended + ours) == 3
        await asyncio.sleep(0.3)
        answers = await asyncio.gather(*(store.write([row(9000 + n)] * 600) for n in range(3)))
        assert answers == [WriteResult(1, 599)] * 3
        assert reported.failed == []


async def test_a_server_that_stops_and_comes_back(server_dir: Path) -> None:
    server, reported = Postgres(server_dir), ReportedEvents()
    server.start()
    try:
        server.wait_ready()
        await init_sql.apply(server.dsn)
        async with opened(server.dsn, reported) as store:
            assert await store.write([row(0)]) == WriteResult(1, 0)
            assert await store.ready()
            await asyncio.to_thread(server.kill)
            assert not await store.ready()
            writes = [asyncio.create_task(store.write([row(n)])) for n in range(1, 20)]
            await until(lambda: store.breaker_state is BreakerState.OPEN)
            await asyncio.sleep(0.5)
            assert not any(write.done() for write in writes)
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(server.wait_ready)
            answers = await asyncio.wait_for(asyncio.gather(*writes), 20)
            assert sum(answer.rows for answer in answers) == 19
            assert (reported.breaker[:2], reported.breaker[-1]) == (["opened", "half-open"], "closed")
            assert await store.ready()
        assert await count(server.dsn) == 20
    finally:
        await asyncio.to_thread(server.stop)


async def test_start_does_not_need_the_server(server_dir: Path) -> None:
    server = Postgres(server_dir)
    async with opened(server.dsn) as store:
        assert not await store.ready()
        write = asyncio.create_task(store.write([row(0)]))
        await asyncio.sleep(0.2)
        assert not write.done()
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write


async def test_stop_ends_a_hold_at_once(server_dir: Path) -> None:
    async with opened(Postgres(server_dir).dsn, shutdown_timeout=30) as store:
        writes = [asyncio.create_task(store.write([row(n)])) for n in range(9)]
        await asyncio.sleep(0.3)
        async with asyncio.timeout(10):
            await store.stop()
            answers = await asyncio.gather(*writes, return_exceptions=True)
        assert all(isinstance(answer, TransientError) for answer in answers)
        with pytest.raises(TransientError):
            await store.write([row(0)])


async def test_a_statement_that_hangs_is_cut_off_and_tried_again(database: str) -> None:
    async with opened(database, database_timeout=0.5) as store, connected(database) as other:
        lock = other.transaction()
        await lock.start()
        await other.execute("LOCK TABLE raw_telemetry")
        write = asyncio.create_task(store.write([row(0)]))
        await asyncio.sleep(1.2)
        assert not write.done()
        await lock.rollback()
        assert await asyncio.wait_for(write, 10) == WriteResult(1, 0)


async def test_stop_cuts_off_a_transaction_that_does_not_end(database: str) -> None:
    async with (
        opened(database, shutdown_timeout=0.3) as store,
        connected(database) as other,
        connected(database) as watcher,
    ):
        lock = other.transaction()
        await lock.start()
        await other.execute("LOCK TABLE raw_telemetry")
        write = asyncio.create_task(store.write([row(0)]))
        await waiting_backend(watcher)
        await asyncio.wait_for(store.stop(), 10)
        with pytest.raises(TransientError):
            await write
        await lock.rollback()
    assert await count(database) == 0


async def test_a_cancelled_write_gives_its_connection_back(database: str) -> None:
    async with (
        opened(database, writes_in_flight=1) as store,
        connected(database) as other,
        connected(database) as watcher,
    ):
        lock = other.transaction()
        await lock.start()
        await other.execute("LOCK TABLE raw_telemetry")
        running, queued = (asyncio.create_task(store.write([row(n)])) for n in range(2))
        await waiting_backend(watcher)
        running.cancel()
        queued.cancel()
        await asyncio.wait({running, queued})
        last = asyncio.create_task(store.write([row(2)]))
        await lock.rollback()
        assert await asyncio.wait_for(last, 10) == WriteResult(1, 0)
        assert await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%store'") == 1


async def test_give_up_lets_a_running_transaction_end(database: str) -> None:
    interrupt = asyncio.Event()
    store = TimescaleStore(Settings(database_url=SecretStr(database)), interrupt)
    async with connected(database) as other, connected(database) as watcher:
        lock = other.transaction()
        await lock.start()
        await other.execute("LOCK TABLE raw_telemetry")
        write = asyncio.create_task(store.write([row(0)]))
        await waiting_backend(watcher)
        interrupt.set()
        await asyncio.sleep(0.1)
        assert not write.done()
        await lock.rollback()
        assert await asyncio.wait_for(write, 10) == WriteResult(1, 0)
    await store.stop()


async def test_a_missing_table_holds_and_calls_an_operator(postgres: PostgresServer, unique: str) -> None:
    reported = ReportedEvents()
    async with connected(postgres.dsn) as admin:
        await admin.execute(f"CREATE DATABASE {unique}")
        async with opened(postgres.dsn_of(unique), reported) as store:
            write = asyncio.create_task(store.write([row(0)]))
            await until(lambda: bool(reported.operator))
            assert not write.done()
            await init_sql.apply(postgres.dsn_of(unique))
            assert await asyncio.wait_for(write, 10) == WriteResult(1, 0)
        assert len(reported.operator) == 1
        assert "42P01" in reported.operator[0]
        assert "iot-stream db init" in reported.operator[0]
        await admin.execute(f"DROP DATABASE {unique} WITH (FORCE)")


@pytest.fixture
async def worker_dsn(database: str) -> str:
    """The database as iot_worker."""
    async with connected(database) as admin:
        await admin.execute("ALTER ROLE iot_worker PASSWORD 'w0rk'")
    return as_role(database, "iot_worker", "w0rk")


async def test_a_missing_right_holds_and_calls_an_operator(database: str, worker_dsn: str) -> None:
    reported = ReportedEvents()
    async with connected(database) as admin, opened(worker_dsn, reported) as store:
        await admin.execute("REVOKE INSERT ON raw_telemetry FROM iot_worker")
        write = asyncio.create_task(store.write([row(0)]))
        await until(lambda: bool(reported.operator))
        assert not write.done()
        await admin.execute("GRANT INSERT ON raw_telemetry TO iot_worker")
        assert await asyncio.wait_for(write, 10) == WriteResult(1, 0)
        assert "42501" in reported.operator[0]


async def test_the_workers_role_can_do_its_work_and_no_more(worker_dsn: str) -> None:
    effects = [
        Effect(Statement.UPSERT_CONFIG, ("u1", "[]", None, EDITED, *LOG)),
        Effect(Statement.UPSERT_STATUS, ("n1", "n1", "n1", "online", START, "{}")),
        Effect(
            Statement.UPSERT_ACTIVE_ALERT,
            ("u", "d", "r", "i", "s", "m", 1.0, 1.0, START, START, "FIRING", None, "", None, None),
        ),
        Effect(Statement.DELETE_ACTIVE_ALERT, ("u", "d", "r", START, "")),
        Effect(
            Statement.INSERT_HISTORY,
            ("i", "FIRING", 0, "u", "d", "r", "s", "m", 1.0, None, START, START, "{}"),
        ),
    ]
    async with opened(worker_dsn) as store:
        assert await store.write([row(n) for n in range(600)], effects * 2) == WriteResult(600, 0)
        assert (await store.write([row(0), row(1, extra_data="}")])).duplicates == 1
    async with connected(worker_dsn) as worker:
        for forbidden in (
            "UPDATE raw_telemetry SET battery = 0",
            "DELETE FROM raw_telemetry",
            "TRUNCATE raw_telemetry",
            "SELECT * FROM mqtt_users",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await worker.execute(forbidden)


async def test_a_wrong_password_is_reported_without_it(database: str, worker_dsn: str) -> None:
    reported = ReportedEvents()
    async with opened(worker_dsn.replace("w0rk", "s3cret"), reported) as store:
        write = asyncio.create_task(store.write([row(0)]))
        await until(lambda: bool(reported.operator))
        assert "28P01" in reported.operator[0]
        assert "s3cret" not in reported.operator[0] + repr(store) + repr(vars(store)) + repr(store.advice)
        assert not write.done()
        async with connected(database) as admin:
            await admin.execute("ALTER ROLE iot_worker PASSWORD 's3cret'")
        assert await asyncio.wait_for(write, 10) == WriteResult(1, 0)
        assert store.advice == {}


LONG = "".join(random.Random(1).choices(string.ascii_letters, k=6000))  # does not fit an index page
WORDS = {
    "refused by the server": "extra_data: 22P02",
    "null": "device_id: 23502",
    "refused by a constraint": '"hot"',
    "refused by an index": "54000",
    "not encodable": "battery does not fit",
}


BAD: dict[str, dict[str, object]] = {
    "good": {},
    "refused by the server": {"extra_data": '{"a":NaN}'},
    "null": {"device_id": None},
    "refused by a constraint": {"temperature": 600.0},
    "refused by an index": {"user_id": LONG},
    "not encodable": {"battery": 2**31},
}


async def test_one_bad_row_in_thousands_costs_little(database: str) -> None:
    """The server inserts no more than three times as many rows, rolled-back rows among them; time is printed."""
    async with connected(database) as admin:
        await admin.execute("ALTER TABLE raw_telemetry ADD CONSTRAINT hot CHECK (temperature < 500)")
        for name, bad in BAD.items():
            await admin.execute("TRUNCATE raw_telemetry")
            rows = [row(n) for n in range(5000)]
            rows[3210] = row(3210, **bad)
            before = await inserted(admin)
            async with opened(database) as store:
                started = time.perf_counter()
                written = await store.write(rows)
                seconds = time.perf_counter() - started
            cost = (await inserted(admin) - before) / 5000
            print(f"{name}: {seconds * 1000:.0f} ms, {cost:.1f} times the inserts of a good batch")
            assert [index for index, _ in written.refused] == ([3210] if bad else [])
            assert written.rows == 5000 - len(written.refused)
            assert not bad or WORDS[name] in written.refused[0][1], written.refused
            assert (1 if name == "good" else 3) >= cost >= 0.99


async def inserted(admin: Connection) -> int:
    """Rows ever inserted into raw_telemetry, rolled back or not; asked once the stores' backends have ended."""
    query = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND backend_type = 'client backend'"""  # TimescaleDB has backends of other types
    async with asyncio.timeout(20):
        while await admin.fetchval(query):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    tables = "relname = 'raw_telemetry' OR relname LIKE '\\_hyper\\_%'"  # and its chunks
    return int(await admin.fetchval(f"SELECT sum(n_tup_ins) FROM pg_stat_user_tables WHERE {tables}"))


async def test_small_writes_that_wait_together_share_a_transaction(database: str) -> None:
    reported = ReportedEvents()
    async with opened(database, reported, writes_in_flight=1) as store:
        await asyncio.gather(*(store.write([row(n)]) for n in range(50)))
        assert reported.written == [50]
