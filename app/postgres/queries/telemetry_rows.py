"""A table of telemetry, raw_telemetry or one like it, asked for its rows: by their keys, and page by page."""

import re
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import asyncpg

from app.core.model.times import MICROSECOND
from app.core.schema.column_types import EXTRA, KEY
from app.core.schema.schema import Schema
from app.errors import PermanentError
from app.postgres.connect import Connection

TABLE = "raw_telemetry"
PAGE = 5_000  # rows a round trip
RowKey = tuple[datetime, str, str, int]  # time, user_id, device_id, sequence_id

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?").fullmatch
# The bounds of the time leave out the chunks of a hypertable that cannot have any of the keys.
_ABSENT = """SELECT k.n FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::bigint[])
    WITH ORDINALITY AS k (time, user_id, device_id, sequence_id, n)
    WHERE NOT EXISTS (SELECT FROM {table} r WHERE r.time BETWEEN $5 AND $6 AND r.time = k.time
      AND r.user_id = k.user_id AND r.device_id = k.device_id AND r.sequence_id = k.sequence_id)"""
_EARLIER = """SELECT EXISTS (SELECT FROM {table} WHERE time BETWEEN $1 AND $2 AND user_id = $3 AND device_id = $4
    AND sequence_id = $5)"""
# Along the primary key: each page begins behind the last row of the page before, so no transaction stays open, and the
# first page comes at once.
_PAGE = """SELECT {columns} FROM {table}
    WHERE time >= $1 AND time < $2 AND (time, user_id, device_id, sequence_id) > ($1, $3, $4, $5){more}
    ORDER BY time, user_id, device_id, sequence_id LIMIT {page}"""
_THERE = "SELECT to_regclass('timescaledb_information.jobs') IS NOT NULL"
_RETENTION = """SELECT min((config->>'drop_after')::interval) FROM timescaledb_information.jobs
    WHERE proc_name = 'policy_retention' AND scheduled
    AND format('%I.%I', hypertable_schema, hypertable_name)::regclass = to_regclass($1)"""


class TelemetryTable(NamedTuple):
    """A table with the columns of raw_telemetry. All its methods raise sqlstate.DATABASE_ERRORS."""

    sql: str  # the name, quoted

    async def absent(self, connection: Connection, keys: Sequence[RowKey]) -> list[int]:
        """The indexes of the keys that no row has, sorted."""
        if not keys:
            return []
        first, last = min(key[0] for key in keys), max(key[0] for key in keys)
        columns = map(list, zip(*keys, strict=True))
        statement = _ABSENT.format(table=self.sql)
        rows = await connection.fetch(statement, *columns, first, last + MICROSECOND)
        return sorted(row[0] - 1 for row in rows)

    async def has_earlier(self, connection: Connection, key: RowKey, within: timedelta) -> bool:
        """Whether there is a row of the same device and sequence_id, at most `within` before the time of the key."""
        time, *ids = key
        return bool(await connection.fetchval(_EARLIER.format(table=self.sql), time - within, time, *ids))

    async def pages(
        self, connection: Connection, columns: Sequence[str], begin: datetime, end: datetime, user: str | None
    ) -> AsyncIterator[Sequence[Sequence[Any]]]:
        """The rows with a time from `begin` up to, not including, `end`, of a user (None: of all), in the order of the
        primary key. `columns` begin with those of the primary key; extra_data comes as text.
        """
        more = "" if user is None else " AND user_id = $6"
        statement = _PAGE.format(table=self.sql, columns=", ".join(columns), page=PAGE, more=more)
        after: Sequence[Any] = (begin, "", "", -(1 << 63))
        while rows := await connection.fetch(statement, after[0], end, *after[1:4], *(() if user is None else (user,))):
            yield rows
            if len(rows) < PAGE:
                return
            after = rows[-1]

    async def span(self, connection: Connection, user: str | None) -> tuple[datetime, datetime] | None:
        """The first and the last time of any row, of a user (None: of all); None without a row."""
        where = "" if user is None else " WHERE user_id = $1"
        statement = f"SELECT min(time), max(time) FROM {self.sql}{where}"  # noqa: S608  # quoted by table_of
        found = await connection.fetchrow(statement, *(() if user is None else (user,)))
        return None if found is None or found[0] is None else (found[0], found[1])

    async def kept_for(self, connection: Connection) -> timedelta | None:
        """How old a row gets until a retention policy of TimescaleDB removes it; None: no policy, or none visible."""
        try:
            if not await connection.fetchval(_THERE):
                return None
            found: timedelta | None = await connection.fetchval(_RETENTION, self.sql)
            return found
        except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedColumnError):
            return None


def table_of(name: str) -> TelemetryTable:
    """The table of this name, with or without its schema. Raises PermanentError for what is no plain name."""
    if not _NAME(name):
        raise PermanentError(f"{name!r} is no name of a table: small letters, digits and _, after a schema and a dot")
    return TelemetryTable(".".join(f'"{part}"' for part in name.split(".")))


def key_columns() -> list[str]:
    """What `pages` is asked for to get the keys alone."""
    return [f'"{name}"' for name in KEY]


def reading_columns(schema: Schema) -> list[str]:
    """What `pages` is asked for to get whole readings: the key, extra_data, then the columns of the schema."""
    extra = f"CASE jsonb_typeof({EXTRA}) WHEN 'object' THEN {EXTRA}::text ELSE '{{}}' END"
    return [*key_columns(), extra, *(f'"{column.name}"' for column in schema.columns)]
