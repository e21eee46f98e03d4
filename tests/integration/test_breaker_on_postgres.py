"""The circuit breaker before a real server: when it opens, who tries, and how soon it is over."""

import asyncio
import time
from pathlib import Path

import pytest

from app.core.batch.effects import WriteResult
from app.local.servers.postgres import Postgres
from app.postgres.circuit_breaker import BreakerState
from app.postgres.schema import init_sql
from tests.contract.postgres.test_store import row
from tests.integration.stores import ReportedEvents, connected, count, opened, until

pytestmark = pytest.mark.integration

HURT, CURE = "ALTER TABLE raw_telemetry RENAME TO away", "ALTER TABLE away RENAME TO raw_telemetry"


async def test_five_failures_open_it_and_half_open_lets_one_batch_through(database: str) -> None:
    """The server answers all the time and refuses: so the wait is never cut short, and each try is counted."""
    reported = ReportedEvents()
    settings = {"breaker_reset_min": 0.3, "breaker_reset_max": 0.3, "breaker_probe": 0.05, "copy_min_rows": 5}
    async with connected(database) as admin, opened(database, reported, writes_in_flight=3, **settings) as store:
        await admin.execute(HURT)
        writes = [asyncio.create_task(store.write([row(n)])) for n in range(20)]
        await until(lambda: reported.breaker.count("half-open") >= 3)
        opened_at = [index for index, event in enumerate(reported.log) if event == "opened"]
        assert reported.log[: opened_at[0]] == ["failed"] * 5
        assert not any(write.done() for write in writes)
        await admin.execute(CURE)
        assert await asyncio.wait_for(asyncio.gather(*writes), 10) == [WriteResult(1, 0)] * 20
    tries = " ".join(reported.log).split("half-open")[1:]
    assert [part.split() for part in tries[:-1]] == [["failed", "opened"]] * (len(tries) - 1), reported.log
    assert tries[-1].split()[:2] == ["closed", "written"]
    assert reported.written[0] == 1  # of five that could share its transaction
    assert reported.rejected > 0
    assert await count(database) == 20


async def test_it_is_over_soon_after_the_server_is_back(server_dir: Path) -> None:
    """With the longest waits there are: the server was away, so they need not end."""
    server, reported = Postgres(server_dir), ReportedEvents()
    server.start()
    try:
        server.wait_ready()
        await init_sql.apply(server.dsn)
        async with opened(server.dsn, reported, breaker_reset_min=60, breaker_reset_max=60) as store:
            for first, away in ((0, 0.0), (100, 1.5)):  # back at once, and after a while
                await asyncio.to_thread(server.kill)
                writes = [asyncio.create_task(store.write([row(first + n)])) for n in range(10)]
                await until(lambda: store.breaker_state is BreakerState.OPEN)
                await asyncio.sleep(away)
                await asyncio.to_thread(server.start)
                await asyncio.to_thread(server.wait_ready)
                back = time.monotonic()
                await asyncio.wait_for(asyncio.gather(*writes), 30)
                print(f"stored {time.monotonic() - back:.1f} s after the server was back")
        assert await count(server.dsn) == 20
    finally:
        await asyncio.to_thread(server.stop)
