"""active_alerts and alert_history as an operator reads them."""

from datetime import datetime

from msgspec import Struct

from app.postgres.connect import Connection

# A parameter that is null leaves its column alone. The caller matches globs: SQL has patterns of another kind.
_OF = "user_id = coalesce($1, user_id) AND rule_id = coalesce($2, rule_id)"
_OPEN = f"""
SELECT user_id, device_id, rule_id, severity, state, snoozed_until, first_seen, last_seen, value, threshold, message,
  alert_id, way FROM active_alerts WHERE {_OF} ORDER BY first_seen, user_id, device_id, rule_id"""  # noqa: S608
_NEWEST = """
SELECT user_id, device_id, rule_id, severity, state, snoozed_until, first_seen, last_seen, value, threshold, message,
  alert_id, way FROM active_alerts ORDER BY first_seen DESC, user_id, device_id, rule_id LIMIT $1"""
_SENT = f"""
SELECT recorded_at, event_time, user_id, device_id, rule_id, status, repeat, event->>'cause', severity,
  event->>'value', message, coalesce((event->>'suppressed')::boolean, false), sent_at, alert_id,
  coalesce(event->>'way', '') FROM alert_history
WHERE {_OF} AND device_id = coalesce($3, device_id) AND recorded_at >= $4
ORDER BY recorded_at DESC, event_time DESC LIMIT $5"""  # noqa: S608


class OpenAlert(Struct, frozen=True):
    """A row of active_alerts."""

    user_id: str
    device_id: str
    rule_id: str
    severity: str
    state: str
    snoozed_until: datetime | None
    first_seen: datetime
    last_seen: datetime
    value: float | None  # None: the value is no number
    threshold: float | None
    message: str
    alert_id: str
    way: str  # "iot" of a device of iot/{node}/{sensor}, else empty


class SentAlert(Struct, frozen=True):
    """A row of alert_history."""

    recorded_at: datetime
    event_time: datetime | None
    user_id: str
    device_id: str
    rule_id: str
    status: str
    repeat: int
    cause: str | None
    severity: str | None
    value: str | None  # as in the event's JSON
    message: str | None
    suppressed: bool  # in a maintenance window: not to be sent
    sent_at: datetime | None  # None: the MQTT broker has not acknowledged the event yet
    alert_id: str
    way: str  # "iot" of a device of iot/{node}/{sensor}, else empty


async def open_alerts(connection: Connection, user: str | None, rule: str | None) -> list[OpenAlert]:
    """The open alerts of a user and a rule (None: of all), the oldest first. Raises sqlstate.DATABASE_ERRORS."""
    return [OpenAlert(*row) for row in await connection.fetch(_OPEN, user, rule)]


async def newest_open(connection: Connection, limit: int) -> tuple[int, list[OpenAlert]]:
    """How many are open, and the `limit` that opened last, the newest first. Raises sqlstate.DATABASE_ERRORS."""
    count = await connection.fetchval("SELECT count(*) FROM active_alerts")
    return count, [OpenAlert(*row) for row in await connection.fetch(_NEWEST, limit)]


async def sent_alerts(
    connection: Connection, user: str | None, rule: str | None, device: str | None, since: datetime, limit: int
) -> list[SentAlert]:
    """The events since then, the newest first, `limit` at most. Raises sqlstate.DATABASE_ERRORS."""
    return [SentAlert(*row) for row in await connection.fetch(_SENT, user, rule, device, since, limit)]
