"""Stores on real servers for tests that hurt them, and what is needed to look at them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
from pydantic import SecretStr

from app.postgres.connect import Connection
from app.postgres.events import NoStoreEvents
from app.postgres.store.store import TimescaleStore
from app.settings import Settings


class ReportedEvents(NoStoreEvents):
    """Keeps what the store reports."""

    def __init__(self) -> None:
        self.operator: list[str] = []
        self.breaker: list[str] = []
        self.written: list[int] = []
        self.copied_rows: list[int] = []  # by COPY straight into the table, each
        self.dead_rows: list[int] = []  # of each such COPY that failed
        self.abandoned = 0  # COPYs that nobody fed any more, and that were ended
        self.failed: list[str] = []
        self.rejected = 0
        self.done = 0  # how often nobody had to act any more
        self.log: list[str] = []  # what concerns the breaker, in order

    def operator_needed(self, message: str) -> None:
        self.operator.append(message)

    def breaker_opened(self, wait: float, error: str) -> None:
        self.breaker.append("opened")
        self.log.append("opened")

    def breaker_half_open(self) -> None:
        self.breaker.append("half-open")
        self.log.append("half-open")

    def breaker_closed(self) -> None:
        self.breaker.append("closed")
        self.log.append("closed")

    def operator_done(self) -> None:
        self.done += 1

    def write_rejected(self) -> None:
        self.rejected += 1

    def database_failed(self, part: str, kind: str, error: str) -> None:
        self.failed.append(error)
        self.log.append("failed")

    def copied(self, rows: int) -> None:
        self.copied_rows.append(rows)

    def copy_failed(self, dead_rows: int) -> None:
        self.dead_rows.append(dead_rows)

    def abandoned_copies_ended(self, count: int) -> None:
        self.abandoned += count

    def write_finished(self, seconds: float, rows: int) -> None:
        self.written.append(rows)
        self.log.append("written")


@asynccontextmanager
async def opened(dsn: str, events: ReportedEvents | None = None, **changes: float) -> AsyncIterator[TimescaleStore]:
    """A store with short waits."""
    waits: dict[str, float] = {"breaker_reset_min": 0.2, "breaker_reset_max": 0.4, "shutdown_timeout": 2.0} | changes
    store = TimescaleStore(Settings(database_url=SecretStr(dsn), **waits), asyncio.Event(), events)  # type: ignore[arg-type]
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def count(dsn: str) -> int:
    async with connected(dsn) as connection:
        return int(await connection.fetchval("SELECT count(*) FROM raw_telemetry"))


async def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - nothing notifies us
            await asyncio.sleep(0.01)


async def waiting_backend(watcher: Connection, but: int = 0) -> int:
    """Process id of the backend that waits for a lock, and is not `but`."""
    query = """SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> $1"""
    async with asyncio.timeout(10):
        while True:
            if pid := await watcher.fetchval(query, but):
                return int(pid)
            await asyncio.sleep(0.01)


def as_role(dsn: str, role: str, password: str) -> str:
    parts = urlsplit(dsn)
    return f"postgresql://{role}:{password}@{parts.hostname}:{parts.port}{parts.path}"
