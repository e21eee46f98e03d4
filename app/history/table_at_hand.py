"""A table of telemetry with a connection to ask it by: in, settings and a name; out, its rows, and errors in our words.

Kafka is read meanwhile, whose errors can be of the same classes: so every call says by itself that the database failed.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from app.core.schema.schema import Schema
from app.errors import PermanentError
from app.postgres.connect import AWAY, CLOSE_TIMEOUT, Connection, connect
from app.postgres.queries.sampling_policies import SamplingPolicies, policies_of
from app.postgres.queries.telemetry_rows import TABLE, RowKey, TelemetryTable, table_of
from app.postgres.schema.telemetry_table import exists
from app.postgres.sqlstate import translated
from app.settings import Settings


class TableAtHand:
    """The table. Each method raises TransientError when the database is away, PermanentError when it refuses."""

    def __init__(self, connection: Connection, table: TelemetryTable, kept_for: timedelta | None) -> None:
        self._connection, self._table = connection, table
        self.kept_for = kept_for  # how old its rows get; None: as old as they like

    async def absent(self, keys: Sequence[RowKey]) -> set[int]:
        """The indexes of the keys that no row has."""
        with translated("the database", AWAY):
            return set(await self._table.absent(self._connection, keys))

    async def has_earlier(self, key: RowKey, within: timedelta) -> bool:
        """As in TelemetryTable."""
        with translated("the database", AWAY):
            return await self._table.has_earlier(self._connection, key, within)

    async def span(self, user: str | None) -> tuple[datetime, datetime] | None:
        """As in TelemetryTable."""
        with translated("the database", AWAY):
            return await self._table.span(self._connection, user)

    async def policies(self, schema: Schema) -> SamplingPolicies:
        """The change of value of all users who have any."""
        with translated("the database", AWAY):
            return await policies_of(self._connection, schema, None)

    async def pages(
        self, columns: Sequence[str], begin: datetime, end: datetime, user: str | None
    ) -> AsyncIterator[Sequence[Sequence[Any]]]:
        """As in TelemetryTable."""
        pages = aiter(self._table.pages(self._connection, columns, begin, end, user))
        while True:
            with translated("the database", AWAY):
                rows = await anext(pages, None)
            if rows is None:
                return
            yield rows


@asynccontextmanager
async def table_at_hand(settings: Settings, name: str) -> AsyncIterator[TableAtHand]:
    """Connect, and close at the end. Raises TransientError when nobody answers, PermanentError for a name that is no
    table's, and where there is no such table.
    """
    table = table_of(name)
    with translated("the database", AWAY):
        connection = await connect(settings, "iot-stream history", planned_anew=True)
    try:
        with translated("the database", AWAY):
            there, kept_for = await exists(connection, table.sql), await table.kept_for(connection)
        if not there:
            cure = f"name another with --table, or make {TABLE}: iot-stream db init"
            raise PermanentError(f"there is no table {table.sql}: {cure}")
        yield TableAtHand(connection, table, kept_for)
    finally:
        with translated("the database", AWAY):
            await connection.close(timeout=CLOSE_TIMEOUT)
