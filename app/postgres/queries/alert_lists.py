"""active_alerts and alert_history as an operator reads them."""

from datetime import datetime

from msgspec import Struct

from app.postgres.connect import Connection

# A parameter that is null leaves its column alone. The caller matches globs: SQL has patterns of another kind.
_OF = "user_id = coalesce($1, user_id) AND rule_id = coalesce($2, rule_id)"
_OPEN = f"""
SELECT user_id, device_id, rule_id, severity, state, snoozed_until, first_seen, last_seen, value, threshold, message,
  alert_id, way, assignee, comment FROM active_alerts WHERE {_OF} ORDER BY first_seen, user_id, device_id, rule_id"""  # noqa: S608
_NEWEST = """
SELECT user_id, device_id, rule_id, severity, state, snoozed_until, first_seen, last_seen, value, threshold, message,
  alert_id, way, assignee, comment FROM active_alerts ORDER BY first_seen DESC, user_id, device_id, rule_id LIMIT $1"""
_SENT = f"""
SELECT recorded_at, event_time, user_id, device_id, rule_id, status, repeat, event->>'cause', severity,
  event->>'value', message, coalesce((event->>'suppressed')::boolean, false), sent_at, alert_id,
  coalesce(event->>'way', '') FROM alert_history
WHERE {_OF} AND device_id = coalesce($3, device_id) AND recorded_at >= $4
ORDER BY recorded_at DESC, event_time DESC LIMIT $5"""  # noqa: S608

_MUTED = f"""
SELECT * FROM (
  SELECT user_id, one->>'device_id' AS device_id, one->>'rule_id' AS rule_id, (one->>'since')::timestamptz AS since,
    (one->>'until')::timestamptz AS snoozed_until, coalesce(one->>'by', ''), coalesce(one->>'comment', ''), '' AS way
  FROM user_configs, jsonb_array_elements(mutes) AS one
  UNION ALL SELECT user_id, device_id, rule_id, since, snoozed_until, muted_by, comment, way FROM muted_alerts
) AS muted WHERE {_OF} AND coalesce(snoozed_until > now(), true)
ORDER BY since, user_id, device_id, rule_id"""  # noqa: S608


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
    assignee: str | None  # who has acknowledged it, and what was said of it
    comment: str | None


class MutedAlert(Struct, frozen=True):
    """What is snoozed or disabled, whether an alert is open or not."""

    user_id: str
    device_id: str  # "*": all devices of the user
    rule_id: str  # "*": all rules
    since: datetime
    snoozed_until: datetime | None  # None: disabled, until somebody enables it
    by: str
    comment: str
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


async def muted_alerts(connection: Connection, user: str | None, rule: str | None) -> list[MutedAlert]:
    """What is muted now of a user and a rule (None: of all), the oldest first. Raises sqlstate.DATABASE_ERRORS."""
    return [MutedAlert(*row) for row in await connection.fetch(_MUTED, user, rule)]


async def newest_open(connection: Connection, limit: int) -> tuple[int, list[OpenAlert]]:
    """How many are open, and the `limit` that opened last, the newest first. Raises sqlstate.DATABASE_ERRORS."""
    count = await connection.fetchval("SELECT count(*) FROM active_alerts")
    return count, [OpenAlert(*row) for row in await connection.fetch(_NEWEST, limit)]


async def sent_alerts(
    connection: Connection, user: str | None, rule: str | None, device: str | None, since: datetime, limit: int
) -> list[SentAlert]:
    """The events since then, the newest first, `limit` at most. Raises sqlstate.DATABASE_ERRORS."""
    return [SentAlert(*row) for row in await connection.fetch(_SENT, user, rule, device, since, limit)]
