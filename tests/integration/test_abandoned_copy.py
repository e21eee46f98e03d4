"""A COPY whose worker is stalled or has lost power: its rows are held by no timeout of the server's, and yet stored."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.core.batch.copy_policy import PartitionEpoch
from app.core.batch.effects import WriteResult
from app.core.model.records import Row
from tests import DEFAULT
from tests.contract.postgres.test_store import row
from tests.integration.stores import ReportedEvents, connected, count, opened

pytestmark = pytest.mark.integration

ROWS = [row(n) for n in range(5000)]  # more than a client sends at once
TIMEOUT = 0.5  # seconds, of a statement
SESSION = {"statement_timeout": f"{TIMEOUT}s", "application_name": "iot-stream store"}


@contextlib.asynccontextmanager
async def stalled_copy(database: str, table: str = "raw_telemetry") -> AsyncIterator[asyncpg.Connection]:
    """A connection that has sent rows of a COPY, and sends no more."""
    connection = await asyncpg.connect(database, server_settings=SESSION)
    ended = asyncio.Event()

    async def sent() -> AsyncIterator[Row]:
        for one in ROWS:
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
    reported = ReportedEvents()
    if not cached:  # no settings of a session are sent then
        async with connected(database) as admin:
            await admin.execute(
                f"ALTER ROLE CURRENT_USER IN DATABASE {database.rpartition('/')[2]} "
                f"SET statement_timeout = '{TIMEOUT}s'"
            )
    async with (
        stalled_copy(database),
        opened(database, reported, database_timeout=TIMEOUT, database_statement_cache=cached) as store,
    ):
        written = store.write(ROWS[:200], (), PartitionEpoch(0, 1))
        assert await asyncio.wait_for(written, 30) == WriteResult(200)
        assert any(error.startswith("57014") for error in reported.failed)
    assert await count(database) == 200
