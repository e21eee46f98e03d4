"""The table of a replay: made where it is missing, and filled, each row once by its key; an outage is waited out."""

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator, Sequence

from app.core.batch.effects import WriteResult
from app.core.model.records import Row
from app.errors import PermanentError, TransientError
from app.ports import Unlimited
from app.postgres.connect import connect, operator_session
from app.postgres.events import NoStoreEvents
from app.postgres.schema.telemetry_table import create, differences, exists, keeps_rows_once
from app.postgres.sqlstate import DATABASE_ERRORS, Failure, advice, classify, limit_reached, words
from app.postgres.store.late_writes import UNLIMITED
from app.postgres.store.session import GRACE, WriteSession
from app.runtime.interrupt import Interrupt
from app.settings import Settings

CLIENT = "history"
AGAIN_SECONDS = 1.0  # between two tries
_PASSWORD = re.compile(r"password=[^&]*")


def place_of(settings: Settings, table: str) -> str:
    """The table and its database, without account and password: the same for the same table."""
    _, _, where = settings.database_url.get_secret_value().rpartition("@")
    return f"{_PASSWORD.sub('', where)} {table}"


async def is_there(settings: Settings, table: str) -> bool:
    """Whether there is such a table. Raises TransientError when the database is away, PermanentError for a refusal."""
    async with operator_session(settings, CLIENT) as connection:
        return await exists(connection, table)


async def prepare(settings: Settings, table: str) -> bool:
    """Make the table if it is missing: whether it was. `table` is a SQL name. Raises PermanentError when the table has
    another shape or no key, or may not be made; TransientError when the database is away.
    """
    async with operator_session(settings, CLIENT) as connection:
        made = not await exists(connection, table)
        if made:
            await connection.execute(create(settings.telemetry_schema, table))
        if found := await differences(connection, settings.telemetry_schema, table):
            cure = found[0].cure if len(found) == 1 else "name another table; one that is not there is made"
            raise PermanentError(f"{'; '.join(one.what for one in found)}: {cure}")
        if not await keeps_rows_once(connection, table):
            key = "(time, user_id, device_id, sequence_id)"
            raise PermanentError(f"{table} would keep rows twice: ALTER TABLE {table} ADD PRIMARY KEY {key}")
        return made


class TargetTable:
    """Writes rows to one table, over one connection."""

    def __init__(self, settings: Settings, table: str, interrupt: Interrupt, patience: float) -> None:
        """`table` is a SQL name; `patience`: seconds that an outage may take."""
        self._settings, self._table, self._interrupt, self._patience = settings, table, interrupt, patience
        self._session: WriteSession | None = None

    async def write(self, rows: Sequence[Row]) -> WriteResult:
        """Store the rows whose key the table does not have. Raises PermanentError when waiting does not help,
        TransientError when the database is away for longer than patience lasts, or when interrupted.
        """
        if not rows:
            return WriteResult()
        deadline, first = time.monotonic() + self._patience, ""
        while True:
            try:
                session = self._session or await self._connected()
                with self._deadline(session):
                    return await session.store(rows, (), self._settings.copy_min_rows, first)
            except DATABASE_ERRORS as error:
                if limit_reached(error) and not first:  # rows that go to compressed chunks
                    first = UNLIMITED
                    continue
                await self.close()
                self._give_up(error, time.monotonic() > deadline)
            await self._interrupt.pause(AGAIN_SECONDS)

    async def close(self) -> None:
        """Cut the connection; safe to call twice."""
        session, self._session = self._session, None
        if session is not None:
            session.connection.terminate()

    async def _connected(self) -> WriteSession:
        connection = await connect(self._settings, f"iot-stream {CLIENT}")
        self._session = WriteSession(
            connection, self._settings.telemetry_schema, keeps_state=self._settings.database_statement_cache,
            lease=Unlimited(), events=NoStoreEvents(), table=self._table,
        )  # fmt: skip
        await self._session.prepare()
        return self._session

    @contextlib.contextmanager
    def _deadline(self, session: WriteSession) -> Iterator[None]:
        """Cut the connection when the block takes longer than a statement may, and the server does not say so."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._settings.database_timeout + GRACE, session.connection.terminate)
        try:
            yield
        finally:
            timer.cancel()

    def _give_up(self, error: BaseException, late: bool) -> None:
        what = f"cannot write to {self._table}: {words(error)}"
        if classify(error) is not Failure.TRANSIENT:
            raise PermanentError("; ".join(filter(None, (what, advice(error))))) from error
        if late or self._interrupt.is_set():
            raise TransientError(what) from error
