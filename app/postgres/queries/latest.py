"""What a device said last: in, user and device; out, its newest readings and its status."""

from datetime import datetime

from msgspec import Struct

from app.postgres.connect import Connection

# Along the primary key, newest first: a device that is alive is found at once, another within the time of a look.
_READINGS = """
SELECT time, sequence_id, (to_jsonb(r) - '{time,user_id,device_id,sequence_id}'::text[])::text FROM raw_telemetry r
WHERE user_id = $1 AND device_id = $2 AND time > now() - interval '1 day' ORDER BY time DESC LIMIT $3"""
_STATUS = """
SELECT status, last_seen FROM device_status WHERE device_key = $1 || '/' || $2 ORDER BY last_seen DESC LIMIT 1"""


class LatestReading(Struct, frozen=True):
    """A row of raw_telemetry; `values`: JSON of every column that is no part of its key."""

    time: datetime
    sequence_id: int
    values: str


class LatestStatus(Struct, frozen=True):
    """A row of device_status."""

    status: str
    last_seen: datetime


async def latest_readings(
    connection: Connection, user: str, device: str, limit: int, seconds: float
) -> list[LatestReading]:
    """The readings of the last day, the newest first, `limit` at most. Raises sqlstate.DATABASE_ERRORS, TimeoutError
    among them after `seconds`.
    """
    found = await connection.fetch(_READINGS, user, device, limit, timeout=seconds)
    return [LatestReading(*row) for row in found]


async def latest_status(connection: Connection, user: str, device: str) -> LatestStatus | None:
    """The newest status of a device; None: never seen, or presence is not kept. Raises sqlstate.DATABASE_ERRORS."""
    row = await connection.fetchrow(_STATUS, user, device)
    return LatestStatus(*row) if row else None
