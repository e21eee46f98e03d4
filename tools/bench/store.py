"""The speed of writes to raw_telemetry and their CPU in this process; run the benchmark with a PostgreSQL URL.

    python -m tools.bench.store postgresql://postgres@127.0.0.1:5432/postgres

unnest, COPY by way of a temporary table and COPY straight into the table, by batch size and transactions in flight,
into an empty table in a new database. Each cell: rows per second, CPU microseconds per row of this process and of the
server, medians. The defaults of IOT_COPY_MIN_ROWS and IOT_DIRECT_COPY_MIN_ROWS come from this table.
"""

import argparse
import asyncio
import math
import resource
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import psutil
import uvloop

from app.core.model.records import Row
from app.ports import Unlimited
from app.postgres.connect import Connection
from app.postgres.events import NoStoreEvents
from app.postgres.schema import init_sql
from app.postgres.store.session import WriteSession
from tests import DEFAULT

DATABASE = "iot_bench_store"
START = datetime(2026, 1, 1, tzinfo=UTC)

Insert = Callable[[WriteSession, Sequence[Row]], Awaitable[int]]


def batches(rows: int, size: int, devices: int = 500) -> list[list[Row]]:
    """`rows` readings of a fleet, a tenth of them without battery, in batches of `size`."""
    made: list[Row] = [
        (
            START + timedelta(milliseconds=n),
            f"user-{n % 50}",
            f"device-{n % devices}",
            n,
            20 + n % 100 / 10,
            None if n % 10 == 0 else n % 101,
            f'{{"humidity":{40 + n % 20}.5,"rssi":-{n % 90}}}',
        )
        for n in range(rows)
    ]
    return [made[at : at + size] for at in range(0, rows, size)]


async def by_unnest(session: WriteSession, rows: Sequence[Row]) -> int:
    """Insert rows with unnest, as for small batches."""
    return await session.insert(rows, copy=False)


async def by_copy(session: WriteSession, rows: Sequence[Row]) -> int:
    """Insert rows with COPY, as for large batches."""
    async with session.connection.transaction():
        return await session.insert(rows, copy=True)


async def straight(session: WriteSession, rows: Sequence[Row]) -> int:
    """COPY rows into the table itself, as where no duplicates are met."""
    written = await session.direct.store(rows, ())
    assert written is not None
    return written.rows


WAYS: dict[str, Insert] = {"unnest": by_unnest, "COPY, staged": by_copy, "COPY, straight": straight}


async def measure(sessions: list[WriteSession], insert: Insert, work: list[list[Row]]) -> tuple[float, float, float]:
    """(rows per second, CPU microseconds of this process per row, those of the server; nan if it runs elsewhere)."""
    await sessions[0].connection.execute("TRUNCATE raw_telemetry")
    waiting = iter(work)

    async def lane(session: WriteSession) -> None:
        for batch in waiting:
            await insert(session, batch)

    rows, wall, cpu = sum(map(len, work)), time.perf_counter(), _cpu()
    server = _cpu_of_server(sessions)
    await asyncio.gather(*map(lane, sessions))
    spent = (time.perf_counter() - wall, _cpu() - cpu, _cpu_of_server(sessions) - server)
    return rows / spent[0], spent[1] / rows * 1e6, spent[2] / rows * 1e6


def _cpu_of_server(sessions: Sequence[WriteSession]) -> float:
    """CPU seconds of the sessions' backends."""
    try:
        times = [psutil.Process(session.connection.get_server_pid()).cpu_times() for session in sessions]
    except psutil.NoSuchProcess:
        return math.nan
    return sum(one.user + one.system for one in times)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def table(dsn: str, repeats: int) -> None:
    """Measure all cells and print the table."""
    sessions = [
        WriteSession(await asyncpg.connect(dsn), DEFAULT, keeps_state=True, lease=Unlimited(), events=NoStoreEvents())
        for _ in range(3)
    ]
    for session in sessions:
        await session.prepare()
    print(f"{'batch':>6} {'in flight':>9} " + " ".join(f"{way:>32}" for way in WAYS))
    for size in (1, 20, 50, 100, 200, 300, 500, 1000, 2000, 5000):
        work = batches(min(50_000, size * 300), size)
        for in_flight in (1, 3):
            cells = []
            for insert in WAYS.values():
                runs = [await measure(sessions[:in_flight], insert, work) for _ in range(repeats)]
                rate, cpu, server = (statistics.median(column) for column in zip(*runs, strict=True))
                cells.append(f"{rate:>10,.0f}/s {cpu:>6.2f} + {server:>5.2f} us")
            print(f"{size:>6} {in_flight:>9} " + " ".join(f"{cell:>32}" for cell in cells))
    for session in sessions:
        await session.connection.close()


async def main() -> None:
    """Create a database, measure, drop the database."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url", help="of a PostgreSQL where a database may be created")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    admin: Connection = await asyncpg.connect(arguments.url)
    await admin.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
    await admin.execute(f"CREATE DATABASE {DATABASE}")
    dsn = arguments.url.rpartition("/")[0] + f"/{DATABASE}"
    try:
        await init_sql.apply(dsn)
        await table(dsn, arguments.repeats)
    finally:
        await admin.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")
        await admin.close()


if __name__ == "__main__":
    uvloop.run(main())
