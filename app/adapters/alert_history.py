"""alert_history: which alert events were published; one row per (alert_id, status), `sent_at` set after the PUBACK."""

import math
from collections.abc import Sequence
from datetime import datetime

from app.adapters.database import Connection
from app.core.alerts import AlertEvent, Value

Key = tuple[str, str]  # alert_id, status

_INSERT = """
INSERT INTO alert_history (alert_id, status, user_id, device_id, rule_id, severity, message, value, threshold,
                           event_time, first_seen, event)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $8::double precision[], $9::double precision[], $10::timestamptz[], $11::timestamptz[],
                     $12::jsonb[])
ON CONFLICT (alert_id, status) DO NOTHING"""
_SENT = """
SELECT alert_id, status FROM alert_history JOIN unnest($1::text[], $2::text[]) AS asked (alert_id, status)
USING (alert_id, status) WHERE sent_at IS NOT NULL"""
_MARK = """
UPDATE alert_history SET sent_at = now() FROM unnest($1::text[], $2::text[]) AS done (alert_id, status)
WHERE alert_history.alert_id = done.alert_id AND alert_history.status = done.status AND sent_at IS NULL"""


async def record(connection: Connection, events: Sequence[tuple[AlertEvent, bytes]]) -> None:
    """Insert the events (with their JSON) that are not there yet. Raises sqlstate.DATABASE_ERRORS."""
    rows = [(*_texts(event), *_numbers(event), *_times(event), text.decode()) for event, text in events]
    await connection.execute(_INSERT, *map(list, zip(*rows, strict=True)))


async def already_sent(connection: Connection, keys: Sequence[Key]) -> set[Key]:
    """Those of `keys` whose PUBACK is on record. Raises sqlstate.DATABASE_ERRORS."""
    if not keys:
        return set()
    rows = await connection.fetch(_SENT, *map(list, zip(*keys, strict=True)))
    return {(row["alert_id"], row["status"]) for row in rows}


async def mark_sent(connection: Connection, keys: Sequence[Key]) -> None:
    """Note that these were acknowledged by the MQTT broker. Raises sqlstate.DATABASE_ERRORS."""
    if not keys:
        return
    await connection.execute(_MARK, *map(list, zip(*keys, strict=True)))


def _texts(event: AlertEvent) -> tuple[str, ...]:
    ids = (event.alert_id, event.status.value, event.user_id, event.device_id, event.rule_id)
    return (*ids, event.severity, event.message)


def _numbers(event: AlertEvent) -> tuple[float | None, float | None]:
    return _number(event.value), _number(event.threshold)


def _times(event: AlertEvent) -> tuple[datetime, datetime]:
    return event.event_time, event.first_seen


def _number(value: Value) -> float | None:
    """For the numeric columns; texts, booleans and integers beyond a double are in `event` alone."""
    if isinstance(value, bool | str):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
