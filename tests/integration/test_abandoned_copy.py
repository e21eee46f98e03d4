"""A COPY whose worker is stalled or has lost power: its rows are held by no timeout of the server's, and yet stored."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

import asyncpg
import pytest

from app.core.batch.copy_policy import PartitionEpoch
from app.core.batch.effects import WriteResult
from app.core.model.records import Row
from app.postgres.connect import Connection
from app.postgres.store.abandoned_copy import end_abandoned_copies
from tests import DEFAULT
from tests.contract.postgres.test_store import row
from tests.integration.stores import ReportedEvents, as_role, connected, count, opened, until

pytestmark = pytest.mark.integration

ORIGIN = PartitionEpoch(0, 1)
WIDE = {"extra_data": f'{{"word": "{"x" * 350}"}}'}
# More than a client keeps back (512 KiB) and a server (1,000 rows); no more, as to send them takes time, too.
ROWS = [row(n, **WIDE) for n in range(1400)]
TIMEOUT = 0.5  # seconds, of a statement
SESSION = {"statement_timeout": f"{TIMEOUT}s", "application_name": "iot-stream store"}


@contextlib.asynccontextmanager
async def stalled_copy(
    database: str, table: str = "raw_telemetry", rows: Sequence[Row] = ROWS, session: Mapping[str, str] = SESSION
) -> AsyncIterator[Connection]:
    """A connection that has sent rows of a COPY, and sends no more."""
    connection = await asyncpg.connect(database, server_settings=dict(session))
    ended = asyncio.Event()

    async def sent() -> AsyncIterator[Row]:
        for one in rows:
            yield one
        await ended.wait()

    copy = asyncio.create_task(connection.copy_records_to_table(table, records=sent(), columns=DEFAULT.names))
    try:
        async with connected(database) as watcher, asyncio.timeout(10):
            held = (
                "SELECT pg_relation_size($1::regclass) > 0 AND wait_event = 'ClientRead' AND state = 'active' "
                "FROM pg_stat_activity WHERE pid = $2"
            )
            while not await watcher.fetchval(held, table, connection.get_server_pid()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield connection
    finally:
        ended.set()
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await copy
        await connection.close()


@pytest.mark.parametrize("cached", [True, False])
async def test_its_rows_are_stored_by_whoever_writes_them_next(database: str, cached: bool) -> None:
    """With the rights that a worker's account has; without a statement cache no settings of a session are sent."""
    reported, dsn, name = ReportedEvents(), as_role(database, "iot_worker", "w0rk"), database.rpartition("/")[2]
    async with connected(database) as admin:
        await admin.execute("ALTER ROLE iot_worker PASSWORD 'w0rk'")
        await admin.execute(f"ALTER ROLE iot_worker IN DATABASE {name} SET statement_timeout = '{TIMEOUT}s'")
    async with (
        stalled_copy(dsn),
        opened(dsn, reported, database_timeout=TIMEOUT, database_statement_cache=cached) as store,
    ):
        await store.write([row(20_000 + n) for n in range(200)], (), ORIGIN)  # after which COPY goes straight in
        await store.write([row(30_000 + n) for n in range(200)], (), ORIGIN)
        assert reported.copied_rows == [200]
        assert await asyncio.wait_for(store.write(ROWS[:200], (), ORIGIN), 30) == WriteResult(200)
        assert any(error.startswith("57014") for error in reported.failed)
        assert reported.abandoned >= 1
    assert await count(database) == 600


async def test_no_other_copy_is_ended(database: str) -> None:
    """Not one that is younger, nor one of anybody else: an operator may import for hours."""
    theirs = [row(n, **WIDE) for n in range(100_000, 101_400)]
    elsewhere = {**SESSION, "application_name": "psql"}
    async with connected(database) as admin:
        await admin.execute("CREATE TABLE spare (LIKE raw_telemetry)")
        async with (
            stalled_copy(database) as ours,
            stalled_copy(database, rows=theirs, session=elsewhere) as operator,
            stalled_copy(database, "spare") as other,
        ):
            assert await end_abandoned_copies(admin, 60) == 0
            assert await end_abandoned_copies(admin, 0) == 1
            await until(ours.is_closed)
            assert not operator.is_closed()
            assert not other.is_closed()
