"""Numbered steps from one schema to the next: in, a connection of the database's owner; out, what has been taken.

init.sql is the one file for an empty database, and notes all steps as taken. Every other database takes the steps that
it has not taken, in order, each in a transaction of its own together with the note. One program migrates at a time:
others wait.
"""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import asyncpg
from msgspec import Struct

from app.errors import PermanentError, TransientError
from app.postgres.connect import Connection

DIRECTORY = Path(__file__).parent / "migrations"
# A step that changes a table waits for the table's users, and everybody else waits behind the step: this long at most.
LOCK_SECONDS = 3
TRIES = 40  # of a table that is in use each time; a second apart

# Of a step that has none of these nothing that is there is changed: it makes what is not.
_CHANGES = re.compile(r"\b(DROP|DELETE\s+FROM|UPDATE\s+\w+\s+SET|TRUNCATE|RENAME|ALTER\s+COLUMN)\b", re.IGNORECASE)
_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_TABLE = """CREATE TABLE IF NOT EXISTS iot_migrations (version integer PRIMARY KEY, name text NOT NULL,
    checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"""
_TAKEN = "INSERT INTO iot_migrations (version, name, checksum) VALUES ($1, $2, $3)"


class Migration(Struct, frozen=True):
    """A step: a file of SQL without BEGIN and COMMIT."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """The checksum of the file, by which a change after the step was taken is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def adds_only(self) -> bool:
        """Whether the step makes tables, columns, indexes and rights, and drops, deletes and rewrites nothing."""
        return _CHANGES.search(re.sub(r"--.*", "", self.sql)) is None

    def __str__(self) -> str:
        return f"{self.version:04} {self.name}"


class MigrationState(Struct, frozen=True):
    """A step, and when the database has taken it; None: not yet."""

    version: int
    name: str
    applied: datetime | None
    problem: str | None = None  # changed since, or unknown to this program


def known(directory: Path = DIRECTORY) -> list[Migration]:
    """All steps in order. Raises PermanentError when a step is missing or misnamed."""
    found = []
    for number, path in enumerate(sorted(directory.glob("*.sql")), 1):
        parts = _NAME.fullmatch(path.name)
        if parts is None or int(parts[1]) != number:
            raise PermanentError(f"{path.name}: migrations are named NNNN_name.sql and numbered without gaps")
        found.append(Migration(number, parts[2], path.read_text(encoding="utf-8")))
    return found


async def status(connection: Connection, steps: Sequence[Migration]) -> list[MigrationState]:
    """Each step that this program or the database knows. Raises asyncpg's errors."""
    taken: dict[int, asyncpg.Record] = {}
    if await connection.fetchval("SELECT to_regclass('iot_migrations') IS NOT NULL"):
        taken = {row["version"]: row for row in await connection.fetch("SELECT * FROM iot_migrations ORDER BY version")}
    found = []
    for step in steps:
        row = taken.pop(step.version, None)
        changed = row is not None and (row["name"], row["checksum"]) != (step.name, step.checksum)
        problem = "the file was changed after the database took it" if changed else None
        found.append(MigrationState(step.version, step.name, row["applied_at"] if row else None, problem))
    newer = "unknown to this program, which is older than the database"
    return [*found, *(MigrationState(row["version"], row["name"], row["applied_at"], newer) for row in taken.values())]


async def migrate(connection: Connection, steps: Sequence[Migration], last: int | None = None) -> list[Migration]:
    """Take the missing steps, those up to version `last` if it is given, and return them. The connection goes to the
    database itself, not to PgBouncer.

    Raises PermanentError when a step was changed or the program is too old, TransientError when a table stays in use,
    and asyncpg's errors: the steps before the failing one are kept.
    """
    await connection.execute("SET statement_timeout = 0; SET client_min_messages = warning")
    await connection.execute("SELECT pg_advisory_lock(hashtextextended('iot-stream db migrate', 0))")
    try:
        await connection.execute(_TABLE)
        await _adopt(connection, steps[0])
        states = await status(connection, steps)
        if wrong := [f"{one.version:04} {one.name}: {one.problem}" for one in states if one.problem]:
            raise PermanentError("; ".join(wrong))
        missing = {one.version for one in states if one.applied is None}
        taken = [step for step in steps if step.version in missing and (last is None or step.version <= last)]
        for step in taken:
            await _take(connection, step)
        return taken
    finally:
        await connection.execute("SELECT pg_advisory_unlock(hashtextextended('iot-stream db migrate', 0))")


async def _adopt(connection: Connection, first: Migration) -> None:
    """Note the first step as taken by a database from before there were steps; a newer init.sql does no harm here."""
    made = "SELECT to_regclass('raw_telemetry') IS NOT NULL AND NOT EXISTS (SELECT FROM iot_migrations)"
    if await connection.fetchval(made):
        await connection.execute(_TAKEN, first.version, first.name, first.checksum)


async def _take(connection: Connection, step: Migration) -> None:
    for _ in range(TRIES):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
                await connection.execute(step.sql)
                await connection.execute(_TAKEN, step.version, step.name, step.checksum)
            return
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(1.0)
    raise TransientError(
        f"migration {step}: a table it changes was in use {TRIES} times: end long transactions, try again"
    )
