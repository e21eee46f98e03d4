"""Records of the alert topic -> alert events and answers to publish; the rest is logged, counted and left out."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import structlog

from app.core.model.alert_event import AlertEvent
from app.core.model.records import Record
from app.core.routing.mqtt_topics import is_own_output
from app.kafka.alert_outbox import TOPIC_HEADER
from app.notify import metrics
from app.postgres.queries.alert_history import Key, key

log = structlog.get_logger()

Events = dict[Key, tuple[AlertEvent, bytes]]  # with the JSON as it was received, which is what is published


MAX_USER_BYTES = 60_000  # an MQTT topic holds 65,535
_decode = msgspec.json.Decoder(AlertEvent).decode


class AlertRecord(NamedTuple):
    """What one record asks to publish: an alert event, or an answer."""

    offset: int  # in its partition of the alert topic
    user_id: str  # the user whose budget and turn the message takes
    topic: str  # of MQTT
    text: bytes  # the payload, as the record has it
    event: AlertEvent | None  # None: the record is an answer
    headers: Sequence[tuple[str, bytes]] = ()  # of the record of an event


def read(records: Sequence[Record]) -> Iterator[AlertRecord]:
    """The messages to publish, in the order of the records. Never raises: a record that is no alert event or answer,
    or that no MQTT topic can be made of, is logged and counted (iot_notifier_invalid_total), and left out.
    """
    for record in records:
        topic = _topic(record)
        try:
            yield _answer(record, topic) if topic is not None else _event(record)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
            metrics.INVALID.inc()
            log.error("notifier_invalid", offset=record.offset, error=str(error)[:200])


def alert_events(records: Sequence[Record]) -> Events:
    """The alert events among the records by their key, in order; of repeated keys the first counts, and the others are
    counted (iot_notifier_repeats_total). Never raises, as `read`.
    """
    events: Events = {}
    for found in read([record for record in records if _topic(record) is None]):
        assert found.event
        if key(found.event) in events:
            metrics.REPEATS.inc()
        events.setdefault(key(found.event), (found.event, found.text))
    return events


def answers(records: Sequence[Record]) -> list[tuple[str, bytes]]:
    """(MQTT topic, payload) of the answers among the records, in order. Never raises, as `read`."""
    return [(found.topic, found.text) for found in read([one for one in records if _topic(one) is not None])]


def _event(record: Record) -> AlertRecord:
    text = bytes(record.value or b"")
    event = _decode(text)
    _check_topic(event.user_id)
    return AlertRecord(record.offset, event.user_id, f"users/{event.user_id}/alerts", text, event, record.headers)


def _answer(record: Record, topic: bytes) -> AlertRecord:
    name = topic.decode()
    user_id = name.removeprefix("users/").partition("/")[0]
    _check_topic(user_id)
    if not is_own_output(name) or not name.endswith("/errors"):
        raise ValueError(f"no answer goes to the topic {name[:80]!r}")
    return AlertRecord(record.offset, user_id, name, bytes(record.value or b""), None)


def _topic(record: Record) -> bytes | None:
    return next((value for name, value in record.headers if name == TOPIC_HEADER), None)


def _check_topic(user_id: str) -> None:
    """Raises ValueError for a user whose alert topic cannot be published to."""
    if not user_id or any(mark in user_id for mark in "/+#\0") or len(user_id.encode()) > MAX_USER_BYTES:
        raise ValueError(f"no MQTT topic can be made of user_id {user_id[:80]!r}")
