"""Records of the alert topic -> alert events that can be published; what cannot is logged, counted and left out."""

from collections.abc import Sequence

import msgspec
import structlog
from prometheus_client import Counter

from app.adapters.alert_history import Key, key
from app.core.alerts import AlertEvent
from app.core.model import Record

log = structlog.get_logger()

Events = dict[Key, tuple[AlertEvent, bytes]]  # with the JSON as it was received, which is what is published

REPEATS = Counter("iot_notifier_repeats", "Alert events left out: acknowledged before")
INVALID = Counter("iot_notifier_invalid", "Records on the alert topic that are no alert event")

MAX_USER_BYTES = 60_000  # an MQTT topic holds 65,535
_decode = msgspec.json.Decoder(AlertEvent).decode


def alert_events(records: Sequence[Record]) -> Events:
    """The alert events among the records, each key once, in order. Never raises."""
    events: Events = {}
    for record in records:
        try:
            event = _decode(record.value or b"")
            _check_topic(event.user_id)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
            INVALID.inc()
            log.error("notifier_invalid", offset=record.offset, error=str(error)[:200])
            continue
        if key(event) in events:
            REPEATS.inc()
        events.setdefault(key(event), (event, bytes(record.value or b"")))
    return events


def _check_topic(user_id: str) -> None:
    """Raises ValueError for a user whose alert topic cannot be published to."""
    if not user_id or any(mark in user_id for mark in "/+#\0") or len(user_id.encode()) > MAX_USER_BYTES:
        raise ValueError(f"no MQTT topic can be made of user_id {user_id[:80]!r}")
