"""raw_telemetry read back: a user's readings in the order of event time, page by page."""

from collections.abc import AsyncGenerator
from datetime import datetime

import asyncpg
import msgspec

from app.core.model.records import Reading
from app.core.schema.schema import Schema
from app.postgres.connect import Connection

PAGE = 5000  # rows a round trip

# The order of the primary key. The planner takes a cursor for a reader of everything and would rather sort all rows
# first: on the server's disk, and for longer than IOT_DATABASE_TIMEOUT. Along the key the first page comes at once.
ALONG_THE_KEY = "SET LOCAL enable_sort = off"
_SQL = """
SELECT time, user_id, device_id, sequence_id,
  CASE jsonb_typeof(extra_data) WHEN 'object' THEN extra_data::text ELSE '{}' END%s FROM raw_telemetry
WHERE time >= $1 AND time < $2 AND user_id = $3 AND starts_with(device_id, $4)
ORDER BY time, user_id, device_id, sequence_id"""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def query(schema: Schema) -> str:
    """The query of a user's readings; the columns of `schema` come last."""
    return _SQL % "".join(f', "{column.name}"' for column in schema.columns)


async def pages(
    connection: Connection, schema: Schema, user_id: str, begin: datetime, end: datetime, prefix: str = ""
) -> AsyncGenerator[list[Reading], None]:
    """The readings of devices whose id begins with `prefix`, through a cursor of a read-only transaction.

    The readings of each device come in the order of their time, then of their sequence_id. Raises
    sqlstate.DATABASE_ERRORS.
    """
    async with connection.transaction(readonly=True):
        await connection.execute(ALONG_THE_KEY)
        cursor = await connection.cursor(query(schema), begin, end, user_id, prefix)
        while rows := await cursor.fetch(PAGE):
            yield [_reading(schema, row) for row in rows]


def _reading(schema: Schema, row: asyncpg.Record) -> Reading:
    time, user_id, device_id, sequence_id, extra, *values = row
    made: Reading = schema.reading(time, user_id, device_id, sequence_id, _fields(extra), extra, *values)
    return made
