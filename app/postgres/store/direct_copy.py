"""COPY into raw_telemetry itself: rows that are expected to be new in; all of them stored, or nothing.

COPY knows no ON CONFLICT: with the first row that is there already it fails, as with a row that the database refuses.
Then nothing of it is stored, and the staged way (session.py), which finds out what is wrong, has the last word: what
counts as new, as a duplicate, as refused and as an outage is decided there alone. A COPY that fails leaves dead rows
behind for PostgreSQL's vacuum; how often it may fail is app.core.batch.copy_policy's to say.
"""

import re
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from app.core.batch.copy_policy import distinct
from app.core.batch.effects import Effect, WriteResult
from app.core.model.records import Row
from app.core.schema.schema import Schema
from app.errors import IotStreamError
from app.postgres.connect import Connection
from app.postgres.events import StoreEvents
from app.postgres.sqlstate import DATABASE_ERRORS, Failure, classify, limit_reached
from app.postgres.store.bisect import SavepointSession, is_data
from app.postgres.store.encode_check import EncodingError

TABLE = "raw_telemetry"
BUFFERED_ROWS = 1000  # rows that COPY puts into the table before it looks into the unique indexes
_LINE = re.compile(r"COPY \w+, line (\d+)")

# Whether COPY does what INSERT .. SELECT does: row-level security forbids COPY, and to a column of another type than
# rows are encoded to only INSERT casts as PostgreSQL does.
_FITS = """SELECT c.relkind IN ('r', 'p') AND NOT c.relrowsecurity AND NOT EXISTS (
        SELECT FROM unnest($1::text[], $2::text[]) AS wanted (name, type)
        LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = wanted.name AND NOT a.attisdropped
        WHERE a.atttypid IS DISTINCT FROM to_regtype(wanted.type)::oid)
    FROM pg_class AS c WHERE c.oid = to_regclass('raw_telemetry')"""


class CopySession(SavepointSession, Protocol):
    """The session (app.postgres.store.session.WriteSession)."""

    connection: Connection
    keeps_state: bool

    async def copy_into(self, table: str, rows: Sequence[Row], where: str | None = None) -> int:
        """COPY the rows into a table; how many are there now. Raises EncodingError or DATABASE_ERRORS."""


class DirectCopy:
    """COPY into the table itself, on the connection of a session."""

    def __init__(self, session: CopySession, events: StoreEvents) -> None:
        self._session, self._events = session, events
        self._fits: bool | None = None  # None: not asked yet
        self._of_these_types = _of_these_types(session.schema)

    async def fits(self) -> bool:
        """Whether the table is such that COPY and INSERT store the same; asked once. Raises DATABASE_ERRORS."""
        if self._fits is None:
            session = self._session
            async with session.connection.transaction(readonly=True):  # PgBouncer: one server for all of it
                found = await session.connection.fetchval(_FITS, list(session.schema.names), list(session.schema.types))
            self._fits = bool(found)
        return self._fits

    async def store(self, rows: Sequence[Row], effects: Sequence[Effect]) -> WriteResult | None:
        """Store one caller's rows, none of which is there yet, and effects, in one transaction.

        Rows that are equal to a row before them are left out, and are duplicates. None: nothing is stored, and the
        write has to be staged. Raises DATABASE_ERRORS for an outage.
        """
        once = distinct(rows)
        if once is None:
            return None
        alone = not effects and self._session.keeps_state  # a single statement is its own transaction
        count = await self._tried(once, self._copy(once) if alone else self._transaction(once, effects))
        return None if count is None else WriteResult(count, len(rows) - count)

    async def store_together(
        self, writes: Sequence[tuple[Sequence[Row], Sequence[Effect]]]
    ) -> list[WriteResult] | None:
        """Store the rows and effects of several callers, if all rows are new; the answer to each.

        Repeats, None and raises as above; a row that two callers have is staged.
        """
        once = [distinct(one) for one, _ in writes]
        rows = [row for each in once for row in each or ()]
        effects = [effect for _, each in writes for effect in each]
        if (
            None in once
            or distinct(rows) is not rows
            or await self._tried(rows, self._transaction(rows, effects, all_new=True)) is None
        ):
            return None
        return [
            WriteResult(len(new or ()), len(one) - len(new or ())) for (one, _), new in zip(writes, once, strict=True)
        ]

    async def _copy(self, rows: Sequence[Row]) -> int:
        return await self._session.copy_into(TABLE, rows, self._of_these_types)

    async def _transaction(self, rows: Sequence[Row], effects: Sequence[Effect], *, all_new: bool = False) -> int:
        async with self._session.transaction():
            count = await self._copy(rows)
            if all_new and count != len(rows):
                raise _LeftOutError
            await self._session.apply(effects)
        return count

    async def _tried(self, rows: Sequence[Row], attempt: Coroutine[Any, Any, int]) -> int | None:
        """How many rows the attempt has stored; None when it has failed, and nothing is stored."""
        try:
            await self._session.lease.ensure()
            count = await attempt
        except _LeftOutError:
            self._events.copy_failed(len(rows))
            return None
        except (EncodingError, *DATABASE_ERRORS) as error:
            if not is_data(error) and not limit_reached(error):
                if classify(error) is Failure.TRANSIENT:
                    raise
                self._fits = False  # the staged way may do what COPY cannot; if not, it says what is wrong
            self._events.copy_failed(dead_rows(error, len(rows)))
            return None
        finally:
            attempt.close()  # where it never began
        self._events.copied(count)
        return count


def _of_these_types(schema: Schema) -> str:
    """A condition on every row that costs nothing, and an error where a column has got another type by now.

    Types are asked for once on a connection (fits). To a column that was made a bigint since, COPY would take the eight
    bytes of a double for a number; no comparison of arrays casts, so the server refuses the statement.
    """
    same = (f'ARRAY["{name}"] = ARRAY[]::{kind}[]' for name, kind in zip(schema.names, schema.types, strict=True))
    return " OR ".join(("true", *same))


class _LeftOutError(IotStreamError):
    """A trigger of the table has left rows out of a COPY, and nobody knows whose: its transaction is rolled back."""


def dead_rows(error: BaseException, rows: int) -> int:
    """How many of so many rows a COPY that failed has left in the table, at most."""
    if line := _LINE.search(getattr(error, "context", None) or ""):
        return min(rows, -(-int(line[1]) // BUFFERED_ROWS) * BUFFERED_ROWS)
    return rows
