"""raw_telemetry asked for one message: in, the message's user, device and number; out, its rows as JSON."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from app.core.model.namespaces import FLEET
from app.postgres.connect import Connection

# The time first: the time begins the primary key, and selects the chunks to look at.
_SQL = """
SELECT time, to_jsonb(stored)::text FROM raw_telemetry AS stored
WHERE time BETWEEN $1 AND $2 AND user_id = $3 AND device_id = $4 AND sequence_id = $5 ORDER BY time DESC LIMIT 20"""


class StoredRow(Struct, frozen=True):
    """A row of raw_telemetry; `columns` is the whole row as a JSON object."""

    time: datetime
    columns: str


async def rows_of(
    connection: Connection, user_id: str, device_id: str, sequence_id: int, begin: datetime, end: datetime
) -> Sequence[StoredRow]:
    """The newest rows of a message with a time from `begin` to `end`, both included. Raises DATABASE_ERRORS."""
    found = await connection.fetch(_SQL, begin, end, user_id, device_id, sequence_id)
    return [StoredRow(*row) for row in found]


async def samples(connection: Connection, user_id: str) -> bool:
    """Whether readings of a user may be left out by change of value. Raises DATABASE_ERRORS."""
    sql = "SELECT bool_or(sampling <> '{}') FROM user_configs WHERE user_id IN ($1, $2)"
    return bool(await connection.fetchval(sql, user_id, FLEET))
