"""What the world hears of an episode: the alert event, its id, its key and its JSON."""

from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b

import msgspec
from msgspec import UNSET, Struct, UnsetType

from app.core.model.keys import device_key

Value = float | int | str | bool  # of a field, as in its JSON


class Status(StrEnum):
    """What happened to an alert."""

    FIRING = "FIRING"
    RESOLVED = "RESOLVED"
    STALE = "STALE"
    REMINDER = "REMINDER"


class Severity(StrEnum):
    """How bad the condition of an alert is, least first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Cause(StrEnum):
    """Why an event of an alert is sent, when the reason is not simply that the condition began or ended."""

    RULE_CHANGED = "rule_changed"  # RESOLVED: the rule is gone or means something else
    UNMUTED = "unmuted"  # FIRING again: the snooze is over or the rule was enabled, and the condition still holds
    ESCALATED = "escalated"  # REMINDER: the alert has been firing for so long that its severity is higher now
    MAINTENANCE_ENDED = "maintenance_ended"  # FIRING: the alert was suppressed before, and the condition still holds
    DATA_AGAIN = "data_again"  # FIRING again: the alert was STALE, and readings come again
    FLAPPING = "flapping"  # FIRING: once too often; the alert resolves only after a long quiet time


OFFLINE_RULE_ID = "$offline"  # of alerts that no rule of a user makes
MASS_RULE_ID = "$mass-offline"


class AlertEvent(Struct, frozen=True, gc=False):
    """One line of an alert's life; the fields and their order are the same as in the JSON. Times are aware UTC.

    `repeat` counts the events of an alert that are sent after its first FIRING and before its RESOLVED: 1, 2, ...;
    FIRING and RESOLVED have none. `age_seconds`, of STALE, says how old `value` is. `suppressed` is true or absent: a
    suppressed event is in alert_history and is not sent. `traceparent` belongs to the record, not to the reading, and
    is set with `msgspec.structs.replace`.
    """

    alert_id: str
    user_id: str
    device_id: str
    rule_id: str
    status: Status
    severity: str
    message: str
    value: Value
    threshold: Value
    event_time: datetime
    first_seen: datetime
    cause: Cause | UnsetType = UNSET
    repeat: int | UnsetType = UNSET
    suppressed: bool | UnsetType = UNSET
    age_seconds: float | UnsetType = UNSET
    traceparent: str | UnsetType = UNSET
    way: str | UnsetType = UNSET  # "iot" of a device of iot/{node}/{sensor}
    assignee: str | UnsetType = UNSET  # who has acknowledged the alert, and what was said of it
    comment: str | UnsetType = UNSET


def alert_id(user_id: str, device_id: str, rule_id: str, first_seen: int, nth: int = 0, way: str = "") -> str:
    """The same 32 hex digits for the same episode, in every program; `first_seen` in microseconds since 1970.

    `nth` distinguishes the episodes that one rule opens at one instant (readings with equal times): 0 for the first,
    and then not part of the hash, nor is an empty `way`. Hashed as a JSON array, so ("a", "bc") and ("ab", "c") differ;
    with a cryptographic hash, so that nobody can choose ids that swallow another's alerts.
    """
    parts: list[str | int] = [user_id, device_id, rule_id, first_seen]
    if nth:
        parts.append(nth)
    if way:
        parts.append(way)
    return blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()


def to_json(event: AlertEvent) -> bytes:
    """The event as JSON, the value on `iot-alerts` and on MQTT; absent optional fields are left out, times end in Z."""
    return msgspec.json.encode(event)


def is_late(event: AlertEvent, now: datetime, late_after: float) -> bool:
    """Whether the event's time lies more than `late_after` seconds before `now` (aware UTC)."""
    return now - event.event_time > timedelta(seconds=late_after)


def as_sent(text: bytes, *, late: bool) -> bytes:
    """The event's JSON `text`, with `"delayed": true` when it is sent late."""
    return text.rstrip()[:-1] + b',"delayed":true}' if late else text


def outbox_key(event: AlertEvent) -> bytes:
    """The key on `iot-alerts`: that of the device's own messages, so alerts keep the device's order."""
    return device_key(event.user_id, event.device_id)
