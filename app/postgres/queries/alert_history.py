"""alert_history: which alert events were published; one row per Key, `sent_at` set after the PUBACK.

`held_at` is set when an event is held back for a digest (alert_budget.py), `left_out` when the MQTT broker cannot take
the event.
"""

from collections.abc import Sequence

from app.core.alerts.outputs import history_effect
from app.core.model.alert_event import AlertEvent
from app.postgres.connect import Connection

Key = tuple[str, str, int]  # alert_id, status, repeat: which of the events with this status

_INSERT = """
INSERT INTO alert_history (alert_id, status, repeat, user_id, device_id, rule_id, severity, message, value, threshold,
                           event_time, first_seen, event)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::double precision[], $10::double precision[], $11::timestamptz[], $12::timestamptz[],
                     $13::jsonb[])
ON CONFLICT (alert_id, status, repeat) DO NOTHING"""
_KEYS = "unnest($1::text[], $2::text[], $3::integer[]) AS asked (alert_id, status, repeat)"
_STATES = f"""
SELECT alert_id, status, repeat, sent_at IS NOT NULL OR held_at IS NOT NULL OR left_out IS NOT NULL AS settled
FROM alert_history JOIN {_KEYS} USING (alert_id, status, repeat)"""  # noqa: S608
_MARK = f"""
UPDATE alert_history AS kept SET sent_at = now() FROM {_KEYS}
WHERE (kept.alert_id, kept.status, kept.repeat) = (asked.alert_id, asked.status, asked.repeat)
  AND sent_at IS NULL"""  # noqa: S608

_LEAVE_OUT = """
UPDATE alert_history AS kept SET left_out = asked.reason
FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[]) AS asked (alert_id, status, repeat, reason)
WHERE (kept.alert_id, kept.status, kept.repeat) = (asked.alert_id, asked.status, asked.repeat)
  AND kept.sent_at IS NULL"""


def key(event: AlertEvent) -> Key:
    """The key that an event and its repetitions share, and no other event has."""
    return event.alert_id, event.status.value, event.repeat or 0


async def record(connection: Connection, events: Sequence[tuple[AlertEvent, bytes]]) -> None:
    """Insert the events (with their JSON) that are not there yet. Raises sqlstate.DATABASE_ERRORS."""
    rows = [history_effect(event, text).args for event, text in events]
    await connection.execute(_INSERT, *map(list, zip(*rows, strict=True)))


async def settled(connection: Connection, keys: Sequence[Key]) -> dict[Key, bool]:
    """The keys that are on record, each with whether its event was acknowledged, held back or left out.

    Raises sqlstate.DATABASE_ERRORS.
    """
    rows = await connection.fetch(_STATES, *map(list, zip(*keys, strict=True)))
    return {(row["alert_id"], row["status"], row["repeat"]): row["settled"] for row in rows}


async def mark_sent(connection: Connection, keys: Sequence[Key]) -> None:
    """Note that the MQTT broker acknowledged these events. Raises sqlstate.DATABASE_ERRORS."""
    if not keys:
        return
    await connection.execute(_MARK, *map(list, zip(*keys, strict=True)))


async def leave_out(connection: Connection, reasons: Sequence[tuple[Key, str]]) -> None:
    """Note that these events are not sent, and why. Raises sqlstate.DATABASE_ERRORS."""
    if not reasons:
        return
    rows = [(*one, why.replace("\0", "")) for one, why in reasons]
    await connection.execute(_LEAVE_OUT, *map(list, zip(*rows, strict=True)))
