"""COPY into raw_telemetry itself: rows that are expected to be new in; all of them stored, or nothing.

COPY knows no ON CONFLICT: with the first row that is there already it fails, as with a row that the database refuses.
Then nothing of it is stored, and the staged way (session.py), which finds out what is wrong, has the last word: what
counts as new, as a duplicate, as refused and as an outage is decided there alone. A COPY that fails leaves dead rows
behind for PostgreSQL's vacuum; how often it may fail is app.core.batch.copy_policy's to say.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from app.core.batch.copy_policy import distinct
from app.core.batch.effects import Effect, WriteResult
from app.core.model.records import Row
from app.postgres.connect import Connection
from app.postgres.events import StoreEvents
from app.postgres.sqlstate import DATABASE_ERRORS, Failure, classify, limit_reached
from app.postgres.store.bisect import SavepointSession, is_data
from app.postgres.store.encode_check import EncodingError

TABLE = "raw_telemetry"
BUFFERED_ROWS = 1000  # rows that COPY puts into the table before it looks into the unique indexes
_LINE = re.compile(r"COPY \w+, line (\d+)")

# Whether COPY does what INSERT .. SELECT does. A rule rewrites an INSERT and no COPY, row-level security forbids COPY,
# and of a column of another type than rows are encoded to only INSERT makes a cast.
_FITS = """SELECT c.relkind IN ('r', 'p') AND NOT c.relhasrules AND NOT c.relrowsecurity AND NOT EXISTS (
        SELECT FROM unnest($1::text[], $2::text[]) AS wanted (name, type)
        LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = wanted.name AND NOT a.attisdropped
        WHERE a.atttypid IS DISTINCT FROM to_regtype(wanted.type)::oid)
    FROM pg_class AS c WHERE c.oid = to_regclass('raw_telemetry')"""


class CopySession(SavepointSession, Protocol):
    """The session (app.postgres.store.session.WriteSession)."""

    connection: Connection
    keeps_state: bool

    async def copy_into(self, table: str, rows: Sequence[Row]) -> None:
        """COPY the rows into a table. Raises EncodingError or DATABASE_ERRORS."""


class DirectCopy:
    """COPY into the table itself, on the connection of a session."""

    def __init__(self, session: CopySession, events: StoreEvents) -> None:
        self._session, self._events = session, events
        self._fits: bool | None = None  # None: not asked yet

    async def fits(self) -> bool:
        """Whether the table is such that COPY and INSERT store the same; asked once. Raises DATABASE_ERRORS."""
        if self._fits is None:
            session = self._session
            async with session.connection.transaction(readonly=True):  # PgBouncer: one server for all of it
                found = await session.connection.fetchval(_FITS, list(session.schema.names), list(session.schema.types))
            self._fits = bool(found)
        return self._fits

    async def store(self, rows: Sequence[Row], effects: Sequence[Effect]) -> WriteResult | None:
        """Store one caller's rows, all of them new but repeats among themselves, and effects, in one transaction.

        None: nothing is stored, and has to go the staged way. Raises DATABASE_ERRORS for an outage.
        """
        once = distinct(rows)
        if not await self._copied(once, effects):
            return None
        return WriteResult(len(once), len(rows) - len(once))

    async def store_together(
        self, writes: Sequence[tuple[Sequence[Row], Sequence[Effect]]]
    ) -> list[WriteResult] | None:
        """Store the rows and effects of several callers, all rows new; the answer to each. None and raises as above."""
        rows = [row for one, _ in writes for row in one]
        if distinct(rows) is not rows or not await self._copied(
            rows, [effect for _, each in writes for effect in each]
        ):
            return None
        return [WriteResult(len(one)) for one, _ in writes]

    async def _copied(self, rows: Sequence[Row], effects: Sequence[Effect]) -> bool:
        session = self._session
        await session.lease.ensure()
        try:
            if effects or not session.keeps_state:
                async with session.transaction():
                    await session.copy_into(TABLE, rows)
                    await session.apply(effects)
            else:
                await session.copy_into(TABLE, rows)  # a single statement is its own transaction
        except (EncodingError, *DATABASE_ERRORS) as error:
            if not is_data(error) and not limit_reached(error):
                if classify(error) is Failure.TRANSIENT:
                    raise
                self._fits = False  # the staged way may do what COPY cannot; if not, it says what is wrong
            self._events.copy_failed(dead_rows(error, len(rows)))
            return False
        self._events.copied(len(rows))
        return True


def dead_rows(error: BaseException, rows: int) -> int:
    """How many of so many rows a COPY that failed has left in the table, at most."""
    if line := _LINE.search(getattr(error, "context", None) or ""):
        return min(rows, -(-int(line[1]) // BUFFERED_ROWS) * BUFFERED_ROWS)
    return rows
