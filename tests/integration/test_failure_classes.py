"""What the database may say to a write, said by a real one: nothing is lost, refused or doubled, and it goes on."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from app.core.batch.effects import Effect, Statement, WriteResult
from app.local.servers.postgres import Postgres
from app.local.servers.unprivileged import run
from app.postgres.circuit_breaker import BreakerState
from app.postgres.schema import init_sql
from app.postgres.store.store import TimescaleStore
from tests.contract.postgres.test_store import EDITED, LOG, row
from tests.integration.stores import ReportedEvents, as_role, connected, count, opened, until, waiting_backend
from tests.servers import PostgresServer, server_directory

pytestmark = pytest.mark.integration

CONFIG = Effect(Statement.UPSERT_CONFIG, ("u1", '[{"key": "a"}]', None, EDITED, *LOG))


@pytest.fixture(scope="module")
def own() -> Iterator[Postgres]:
    """A server that may be hurt, with the schema in its own database."""
    with server_directory() as directory:
        server = Postgres(directory)
        server.start()
        try:
            server.wait_ready()
            asyncio.run(init_sql.apply(server.dsn))
            yield server
        finally:
            server.stop()


@pytest.fixture
async def own_dsn(own: Postgres) -> str:
    """That database, empty, the server running."""
    own.start()
    await asyncio.to_thread(own.wait_ready)
    async with connected(own.dsn) as admin:
        await admin.execute("TRUNCATE raw_telemetry")
    return own.dsn


async def held(
    store: TimescaleStore, reported: ReportedEvents, sqlstate: str, rows: int = 3
) -> "asyncio.Task[WriteResult]":
    """Begin a write that fails with `sqlstate` at least twice and is not done."""
    write = asyncio.create_task(store.write([row(n) for n in range(rows)]))
    await until(lambda: sum(error.startswith(sqlstate) for error in reported.failed) >= 2)
    assert not write.done()
    return write


async def goes_on(write: "asyncio.Task[WriteResult]", dsn: str, rows: int = 3) -> None:
    """The write is done by itself: all rows new, none refused, each there once."""
    assert await asyncio.wait_for(write, 20) == WriteResult(rows, 0)
    assert await count(dsn) == rows


async def test_a_deadlock(database: str) -> None:
    reported = ReportedEvents()
    async with opened(database, reported) as store, connected(database) as other:
        await other.execute("SET deadlock_timeout = '60s'")  # the store's backend finds it, and is the victim
        lock = other.transaction()
        await lock.start()
        await other.execute("INSERT INTO user_configs (user_id) VALUES ('u1')")
        write = asyncio.create_task(store.write([row(n) for n in range(3)], [CONFIG]))
        async with connected(database) as watcher:
            await waiting_backend(watcher)  # the rows of the write are in, its effect waits for u1
        await other.execute("INSERT INTO raw_telemetry VALUES ($1, $2, $3, $4)", *row(0)[:4])  # waits for its row
        await until(lambda: bool(reported.failed))
        assert [error[:5] for error in reported.failed] == ["40P01"]
        await lock.rollback()
        await goes_on(write, database)


async def test_a_serialization_failure(database: str) -> None:
    reported = ReportedEvents()
    async with connected(database) as other, connected(database) as watcher:
        name = await other.fetchval("SELECT current_database()")
        await other.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
        await other.execute("INSERT INTO user_configs (user_id) VALUES ('u1')")
        async with opened(database, reported) as store:
            lock = other.transaction()
            await lock.start()
            await other.execute("UPDATE user_configs SET rules = '[1]', edited_at = '2000-01-01'")
            write = asyncio.create_task(store.write([row(n) for n in range(3)], [CONFIG]))
            await waiting_backend(watcher)
            await lock.commit()
            await goes_on(write, database)
        assert [error[:5] for error in reported.failed] == ["40001"]
        assert await other.fetchval("SELECT rules FROM user_configs") == '[{"key": "a"}]'


async def test_a_fast_restart(own: Postgres, own_dsn: str) -> None:
    """SIGINT to the postmaster, which is what `pg_ctl restart -m fast` sends: its words reach us."""
    reported = ReportedEvents()
    async with opened(own_dsn, reported) as store, connected(own_dsn) as other:
        lock = other.transaction()
        await lock.start()
        await other.execute("LOCK TABLE raw_telemetry")
        write = asyncio.create_task(store.write([row(n) for n in range(3)]))
        async with connected(own_dsn) as watcher:
            await waiting_backend(watcher)
        await asyncio.to_thread(own.stop)
        await until(lambda: len(reported.failed) > 1)
        assert "administrator command" in reported.failed[0]
        await asyncio.to_thread(own.start)
        await asyncio.to_thread(own.wait_ready)
        await goes_on(write, own_dsn)


async def test_a_database_that_is_set_read_only(database: str) -> None:
    reported = ReportedEvents()
    async with connected(database) as admin, opened(database, reported) as store:
        await admin.execute("SET default_transaction_read_only = off")
        name = await admin.fetchval("SELECT current_database()")
        await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        write = await held(store, reported, "25006")
        assert "target_session_attrs" in store.advice["writes"]
        await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await goes_on(write, database)
        assert (store.advice, reported.done) == ({}, 1)


@asynccontextmanager
async def standby_of(primary: Postgres, directory: Path) -> AsyncIterator[Postgres]:
    """A hot standby that follows: a copy of the stopped primary, set up as one."""
    standby = Postgres(directory)
    await asyncio.to_thread(standby.start)  # makes directories, account and password file
    await asyncio.to_thread(standby.stop)
    await asyncio.to_thread(primary.stop)
    await asyncio.to_thread(_copy, primary, standby)
    for server in (primary, standby):
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(server.wait_ready)
    try:
        yield standby
    finally:
        await asyncio.to_thread(standby.stop)
        if not primary.process.alive():
            primary.start()
            await asyncio.to_thread(primary.wait_ready)


def _copy(primary: Postgres, standby: Postgres) -> None:
    source, target = primary.process.cwd, standby.process.cwd
    assert source
    assert target
    account = standby.process.account
    script = 'set -e; rm -rf "$1"; cp -r "$0" "$1"; chmod 700 "$1"; touch "$1/standby.signal"; echo "$2" >> "$1/$3"'
    setting = f"primary_conninfo = '{primary.dsn}'"
    done = run(["/bin/sh", "-c", script, str(source), str(target), setting, "postgresql.auto.conf"], account)
    assert done.returncode == 0, done.stderr
    (standby.data_dir / "password").write_text(primary.password)


async def test_a_fail_over(own: Postgres, own_dsn: str, server_dir: Path) -> None:
    """Clients are sent to a standby, which is read-only until it is promoted; and with both hosts in the URL."""
    async with standby_of(own, server_dir) as standby:
        reported, both = ReportedEvents(), own_dsn.replace(f":{own.port}/", f":{own.port},127.0.0.1:{standby.port}/")
        async with (
            opened(standby.dsn, reported) as moved,
            opened(f"{both}?target_session_attrs=read-write", writes_in_flight=1) as following,
        ):
            assert await following.write([row(100)]) == WriteResult(1, 0)
            write = await held(moved, reported, "25006")
            await _caught_up(own, standby)
            await asyncio.to_thread(own.kill)
            late = asyncio.create_task(following.write([row(101)]))
            await until(lambda: following.breaker_state is BreakerState.OPEN)
            async with connected(standby.dsn) as admin:
                await admin.fetchval("SELECT pg_promote()")
            assert await asyncio.wait_for(write, 20) == WriteResult(3, 0)
            assert await asyncio.wait_for(late, 20) == WriteResult(1, 0)
            assert await count(standby.dsn) == 5


async def _caught_up(primary: Postgres, standby: Postgres) -> None:
    async with connected(primary.dsn) as ahead, connected(standby.dsn) as behind, asyncio.timeout(20):
        lsn = await ahead.fetchval("SELECT pg_current_wal_lsn()::text")
        while not await behind.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", lsn):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_too_many_connections(own: Postgres, own_dsn: str) -> None:
    reported = ReportedEvents()
    async with connected(own_dsn) as admin:
        await admin.execute("ALTER ROLE iot_worker PASSWORD 'w0rk'")
        free = int(await admin.fetchval("SELECT current_setting('max_connections')")) - 1
        taken: list[asyncpg.Connection[asyncpg.Record]] = []
        try:
            with contextlib.suppress(asyncpg.TooManyConnectionsError):
                for _ in range(free):
                    taken.append(await asyncpg.connect(as_role(own_dsn, "iot_worker", "w0rk")))
            async with opened(as_role(own_dsn, "iot_worker", "w0rk"), reported) as store:
                write = await held(store, reported, "53300")
                assert "max_connections" in store.advice["writes"]
                await taken.pop().close()
                await goes_on(write, own_dsn)
        finally:
            for connection in taken:
                await connection.close()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 24 MiB that PostgreSQL may write to; needs root."""
    with server_directory() as directory:
        mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0777", "tmpfs", str(directory)]
        if shutil.which("mount") is None or run(mount, None).returncode:
            pytest.skip("no small file system can be mounted here: that takes root, and a container that may mount")
        try:
            yield directory
        finally:
            run(["umount", "-l", str(directory)], None)


async def test_a_full_disk(own: Postgres, own_dsn: str, small_disk: Path) -> None:
    reported = ReportedEvents()
    place = small_disk / "tablespace"
    place.mkdir()
    place.chmod(0o700)
    if account := own.process.account:
        shutil.chown(place, account.uid, account.gid)
    async with connected(own_dsn) as admin:
        await admin.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
        await admin.execute("ALTER TABLE raw_telemetry SET TABLESPACE small")
        filler = small_disk / "filler"
        _fill(filler)
        try:
            async with opened(own_dsn, reported) as store:
                write = await held(store, reported, "53100", rows=5000)
                assert "disk is full" in store.advice["writes"]
                assert not await store.ready()
                filler.unlink()
                await goes_on(write, own_dsn, rows=5000)
                assert await store.ready()
        finally:
            filler.unlink(missing_ok=True)
            await admin.execute("ALTER TABLE raw_telemetry SET TABLESPACE pg_default")
            await admin.execute("DROP TABLESPACE small")


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as open_file, contextlib.suppress(OSError):
        while True:
            open_file.write(bytes(64 << 10))


async def test_a_lock_that_is_not_given(database: str) -> None:
    reported = ReportedEvents()
    async with connected(database) as other:
        name = await other.fetchval("SELECT current_database()")
        await other.execute(f"ALTER DATABASE {name} SET lock_timeout = '100ms'")
        async with opened(database, reported) as store:
            lock = other.transaction()
            await lock.start()
            await other.execute("LOCK TABLE raw_telemetry")
            write = await held(store, reported, "55P03")
            await lock.rollback()
            await goes_on(write, database)


async def test_a_statement_timeout(database: str) -> None:
    reported = ReportedEvents()
    async with opened(database, reported, database_timeout=0.3) as store, connected(database) as other:
        lock = other.transaction()
        await lock.start()
        await other.execute("LOCK TABLE raw_telemetry")
        write = await held(store, reported, "57014")
        await lock.rollback()
        await goes_on(write, database)


MISSING = {
    "42P01": ("ALTER TABLE raw_telemetry RENAME TO away", "ALTER TABLE away RENAME TO raw_telemetry", "db init"),
    "42703": (
        "ALTER TABLE raw_telemetry RENAME battery TO cell",
        "ALTER TABLE raw_telemetry RENAME cell TO battery",
        "older than this program",
    ),
    "42804": (
        "ALTER TABLE raw_telemetry ALTER battery TYPE boolean USING true",
        "ALTER TABLE raw_telemetry ALTER battery TYPE integer USING 1",
        "change the column back",
    ),
}


@pytest.mark.parametrize(("sqlstate", "what"), MISSING.items(), ids=MISSING)
async def test_a_schema_that_is_not_ours(database: str, sqlstate: str, what: tuple[str, str, str]) -> None:
    reported = ReportedEvents()
    hurt, cure, say = what
    async with connected(database) as admin, opened(database, reported) as store:
        assert await store.write([row(1000)]) == WriteResult(1, 0)  # a statement is prepared already
        await admin.execute("TRUNCATE raw_telemetry")
        await admin.execute(hurt)
        write = await held(store, reported, sqlstate)
        assert say in store.advice["writes"]
        assert not await store.ready()
        await admin.execute(cure)
        await goes_on(write, database)
        assert (store.advice, await store.ready(), len(reported.operator)) == ({}, True, 1)


async def test_a_missing_database(postgres: PostgresServer, unique: str) -> None:
    reported, dsn = ReportedEvents(), postgres.dsn_of(unique)
    async with connected(postgres.dsn) as admin:
        async with opened(dsn, reported) as store:
            write = await held(store, reported, "3D000")
            assert "create the database" in store.advice["writes"]
            await init_sql.make_database(postgres.dsn, unique)
            await init_sql.apply(dsn)
            await goes_on(write, dsn)
        await admin.execute(f"DROP DATABASE {unique} WITH (FORCE)")
