"""A lane's connection and the transaction of a write on it: rows by unnest or COPY, then effects; no retries.

The way that every row can go: rows that are there already are left out and counted. Rows that are expected to be new
may go a shorter one (direct_copy.py).

A transaction stores one caller's rows and effects, or those of several callers whose rows are all new. Of one caller's
rows and effects, those that the database refuses are found and left out, alone (bisect.py).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import groupby
from typing import Any

from app.core.batch.effects import Effect, Statement, WriteResult
from app.core.model.records import Row
from app.core.schema.column_types import KEY
from app.core.schema.schema import Schema
from app.errors import IotStreamError
from app.ports import Lease
from app.postgres.connect import Connection, connect
from app.postgres.events import StoreEvents
from app.postgres.schema.telemetry_table import TABLE
from app.postgres.sqlstate import DATABASE_ERRORS, limit_reached
from app.postgres.store import config_edits
from app.postgres.store.abandoned_copy import end_abandoned_copies
from app.postgres.store.bisect import bisect, is_data
from app.postgres.store.direct_copy import DirectCopy
from app.postgres.store.encode_check import EncodingError
from app.postgres.store.statements import STATEMENTS
from app.settings import Settings

STAGING = "iot_batch"
GRACE = 1.0  # seconds beyond the server's own statement timeout, before the connection is cut
CLOSE_TIMEOUT = 2.0  # seconds for a farewell
TOGETHER_MIN = 4  # from so many equal effects on one statement carries them out, if there is one for that
RETURNED_ROWS = 64  # up to so many the database returns which are new: less work than BEGIN and COMMIT


class WriteSession:
    """One connection and the transactions of a write on it."""

    def __init__(
        self,
        connection: Connection,
        schema: Schema,
        *,
        keeps_state: bool,
        lease: Lease,
        events: StoreEvents,
        table: str = TABLE,
    ) -> None:
        """`schema` is that of the rows, `table` the SQL name of their table; `keeps_state`: temp tables and prepared
        statements outlive a transaction (not behind PgBouncer). `lease`: asked for before each.
        """
        self.connection = connection
        self.keeps_state = keeps_state
        self.lease = lease
        self._events = events
        self.schema = schema
        self.direct = DirectCopy(self, events)
        names = ", ".join(f'"{name}"' for name in schema.names)
        # The names are identifiers (schema.py). Without a conflict target any unique key of the table counts.
        arrays = ", ".join(f"${at}::{kind}[]" for at, kind in enumerate(schema.types, 1))
        into = f"INSERT INTO {table} ({names}) SELECT"
        self._unnest = f"{into} * FROM unnest({arrays}) ON CONFLICT DO NOTHING"
        self._unnest_returning = f"{self._unnest} RETURNING {', '.join(KEY)}"
        self._from_staging = f"{into} {names} FROM {STAGING} ON CONFLICT DO NOTHING"
        # The types that rows are encoded to, without constraints: the INSERT checks what else the table asks for.
        typed = ", ".join(map('"{}" {}'.format, schema.names, schema.types))
        self._stage = f"CREATE TEMP TABLE IF NOT EXISTS {STAGING} ({typed}) ON COMMIT"

    async def prepare(self) -> None:
        """Make the staging table, if the session can keep it."""
        if self.keeps_state:
            await self.connection.execute(f"{self._stage} DELETE ROWS")

    async def store(
        self, rows: Sequence[Row], effects: Sequence[Effect], copy_min_rows: int, first: str = ""
    ) -> WriteResult:
        """Store one caller's rows and effects, all but what the database refuses of them, in one transaction.

        From `copy_min_rows` rows on by COPY; `first` is a statement for the beginning of the transaction. Raises
        DATABASE_ERRORS for anything but data: then nothing is stored.
        """
        copy = len(rows) >= copy_min_rows
        await self.lease.ensure()
        try:
            if not copy and not effects and not first and self.keeps_state:
                count = await self.insert(rows, copy=False)  # a single statement is its own transaction
            else:
                async with self.transaction(first):
                    count = await self.insert(rows, copy=copy)
                    await self.apply(effects)
        except (EncodingError, *DATABASE_ERRORS) as error:
            if not is_data(error):
                raise
            return await bisect(self, rows, effects, first, error)
        return WriteResult(count, len(rows) - count)

    async def store_together(
        self, writes: Sequence[tuple[Sequence[Row], Sequence[Effect]]], copy_min_rows: int
    ) -> list[WriteResult] | None:
        """Store the rows and effects of several callers at once; the answer to each, or None: nothing is stored.

        Raises DATABASE_ERRORS for an outage. With a duplicate among many rows the server's count does not say which
        caller had it. Live traffic has hardly any, and a replay comes in batches too large to be grouped.
        """
        rows = [row for one, _ in writes for row in one]
        effects = [effect for _, each in writes for effect in each]
        try:
            if self.keeps_state and len(rows) <= RETURNED_ROWS and not effects:
                return _answers(writes, await self.insert_returning_keys(rows))
            async with self.connection.transaction():
                if await self.insert(rows, copy=len(rows) >= copy_min_rows) != len(rows):
                    raise _NotAllNewError
                await self.apply(effects)
        except _NotAllNewError:
            return None
        except (EncodingError, *DATABASE_ERRORS) as error:
            if not is_data(error) and not limit_reached(error):
                raise
            return None
        return [WriteResult(len(one)) for one, _ in writes]

    @contextlib.asynccontextmanager
    async def transaction(self, first: str = "") -> AsyncIterator[None]:
        """Begin a transaction, with the statement `first` if there is one; commit at the end, roll back on an error."""
        async with self.connection.transaction():
            if first:
                await self.connection.execute(first)
            yield

    async def insert(self, rows: Sequence[Row], *, copy: bool) -> int:
        """Insert the rows that are not there yet; return how many were new. COPY needs an open transaction.

        Raises EncodingError or DATABASE_ERRORS.
        """
        if not rows:
            return 0
        if not copy:
            return _count(await self.connection.execute(self._unnest, *_arrays(rows)))
        if not self.keeps_state:
            await self.connection.execute(f"{self._stage} DROP")
        await self.copy_into(STAGING, rows)
        return _count(await self.connection.execute(self._from_staging))

    async def copy_into(self, table: str, rows: Sequence[Row], where: str | None = None) -> int:
        """COPY the rows, of which `where` is true, into a table; how many are there now.

        Raises EncodingError or DATABASE_ERRORS.
        """
        copy, names = self.connection.copy_records_to_table, self.schema.names
        try:
            return _count(await copy(table, records=rows, columns=names, where=where))
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, DATABASE_ERRORS):
                raise
            raise EncodingError(f"a row cannot be encoded: {error}") from error  # asyncpg lets these through as is

    async def insert_returning_keys(self, rows: Sequence[Row]) -> set[tuple[Any, ...]]:
        """Insert few rows, in one statement that is its own transaction; return the keys of the new rows.

        Only where the session keeps state: the statement is prepared in one transaction and carried out in the next.
        Raises EncodingError or DATABASE_ERRORS, with nothing stored.
        """
        return {tuple(key) for key in await self.connection.fetch(self._unnest_returning, *_arrays(rows))}

    async def clear_staging(self) -> None:
        """Empty the staging table, so that the same transaction can COPY again."""
        await self.connection.execute(f"TRUNCATE {STAGING}")

    async def apply(self, effects: Sequence[Effect]) -> None:
        """Carry out the effects in their order, neighbours of one kind together. Raises DATABASE_ERRORS."""
        for statement, run in groupby(effects, key=lambda effect: effect.statement):
            known, every = STATEMENTS[statement], [effect.args for effect in run]
            if known.together and len(every) >= TOGETHER_MIN:
                await self.connection.execute(known.together, *_arrays(every))
            elif statement in (Statement.UPSERT_CONFIG, Statement.UPSERT_SAMPLED_CONFIG):
                await config_edits.carry_out(self.connection, known.sql, every, self._events)
            else:
                await self.connection.executemany(known.sql, every)


class Lane:
    """A place for one transaction at a time: a session that is opened when needed and thrown away when in doubt."""

    def __init__(self, settings: Settings, lease: Lease, events: StoreEvents, name: str = "store") -> None:
        """No transaction begins without the `lease`; `name` is the connection's name in pg_stat_activity."""
        self._settings, self._lease, self._events, self._name = settings, lease, events, f"iot-stream {name}"
        self.session: WriteSession | None = None

    async def open(self) -> WriteSession:
        """Connect and prepare a session. Raises DATABASE_ERRORS. May be cancelled."""
        connection = await connect(self._settings, self._name)
        keeps_state, schema = self._settings.database_statement_cache, self._settings.telemetry_schema
        session = WriteSession(connection, schema, keeps_state=keeps_state, lease=self._lease, events=self._events)
        try:
            await session.prepare()
            self.session = session
            with self.deadline():
                ended = await end_abandoned_copies(connection, self._settings.database_timeout + GRACE)
        except BaseException:
            self.session = None
            connection.terminate()
            raise
        if ended:
            self._events.abandoned_copies_ended(ended)
        return session

    @contextlib.contextmanager
    def deadline(self) -> Iterator[None]:
        """Cut the connection when the block takes longer than database_timeout.

        This is no cancellation: a transaction that is cancelled still talks to the server, which may be gone.
        """
        timer = asyncio.get_running_loop().call_later(self._settings.database_timeout + GRACE, self.drop)
        try:
            yield
        finally:
            timer.cancel()

    def drop(self) -> None:
        """Cut the connection at once: a running transaction fails, and the server rolls the transaction back."""
        if self.session is not None:
            self.session.connection.terminate()
            self.session = None

    async def close(self) -> None:
        """Say farewell to the server; cut the connection if the server does not answer."""
        if self.session is not None:
            with contextlib.suppress(*DATABASE_ERRORS):
                await self.session.connection.close(timeout=CLOSE_TIMEOUT)
            self.drop()


class _NotAllNewError(IotStreamError):
    """The answer to a group is not the sum of simple answers: its transaction is rolled back."""


def _answers(writes: Sequence[tuple[Sequence[Row], Sequence[Effect]]], new: set[tuple[Any, ...]]) -> list[WriteResult]:
    """Count for each write its keys that are new; a key that comes twice is new to the first write."""
    answers = []
    for rows, _ in writes:
        count = len(new)
        new.difference_update(row[: len(KEY)] for row in rows)
        count -= len(new)
        answers.append(WriteResult(count, len(rows) - count))
    return answers


def _arrays(rows: Sequence[Row]) -> Iterator[list[Any]]:
    """The values of the rows, as a list for each column."""
    return map(list, zip(*rows, strict=True))


def _count(tag: str) -> int:
    """The number of rows in a command tag, `INSERT 0 <rows>` or `COPY <rows>`."""
    return int(tag.rpartition(" ")[2])
