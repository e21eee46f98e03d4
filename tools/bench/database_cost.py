"""What PostgreSQL spends on a run: CPU seconds of all its processes, those that have ended too, and bytes of WAL."""

import asyncio
from typing import NamedTuple

import asyncpg
import psutil

from app.local.servers.postgres import Postgres


class DatabaseCost(NamedTuple):
    """What a server has spent since its start, or between two moments."""

    cpu: float  # seconds
    wal: int  # bytes

    def since(self, before: "DatabaseCost") -> "DatabaseCost":
        """What was spent since `before`."""
        return DatabaseCost(self.cpu - before.cpu, self.wal - before.wal)


def spent(postgres: Postgres) -> DatabaseCost:
    """What a server of this machine has spent since its start."""
    return DatabaseCost(cpu_seconds(postgres.pid), asyncio.run(_wal(postgres.dsn)))


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process and all processes below it, those that have ended included.

    A process that ends passes its time on to its parent, which may have been read already: then all is read again.
    """
    while True:
        try:
            root = psutil.Process(pid)
            processes = [root, *root.children(recursive=True)]
            seconds = sum(map(_with_reaped, processes))
            if {one.pid for one in processes} == {pid, *(child.pid for child in root.children(recursive=True))}:
                return seconds
        except psutil.NoSuchProcess:
            if not psutil.pid_exists(pid):
                raise


def _with_reaped(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


async def _wal(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"))
    finally:
        await connection.close()
