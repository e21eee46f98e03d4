"""Records of each topic, and MQTT messages -> what is shown of them: pure, and never raises on any bytes."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from app.core.deadletters.envelope import DeadLetter
from app.core.deadletters.letters import read_letter
from app.core.model.records import Kind
from app.core.routing.mqtt_topics import is_own_output
from app.inspect.decoding import RecordDecoder, header, trace_id_of
from app.inspect.text import is_text, raw_json, time_of

Headers = Sequence[tuple[str, bytes | None]]
EVENT, ANSWER = "alert", "answer"  # kinds of what is on its way out


class RecordView(Struct, frozen=True):
    """A record or message, decoded as far as possible."""

    where: str  # topic-partition@offset, or the MQTT topic
    place: dict[str, Any]  # the same for a machine
    at_ms: int
    kind: str
    user_id: str
    device_id: str
    payload: bytes | None
    headers: Headers = ()  # of Kafka, or user properties of MQTT 5
    key: bytes | None = None
    sequence_id: int | None = None
    trace_id: str | None = None
    reason: str = ""  # of a dead letter, or why a worker refuses the record
    stage: str = ""
    error: str = ""
    more: dict[str, Any] = {}  # what else a dead letter says


class _AlertIds(Struct):
    """Whom an alert event is about."""

    user_id: str = ""
    device_id: str = ""


class MqttRecord(Struct):
    """An MQTT message as the record that the bridge makes of it."""

    value: bytes | None
    timestamp: int
    headers: Headers
    key: bytes | None = None
    offset: int = -1


_ids = msgspec.json.Decoder(_AlertIds).decode


class Viewer:
    """Makes views of records, decoded with the settings of a worker. `now_ms` of its methods is milliseconds since
    1970.
    """

    def __init__(self, decoder: RecordDecoder) -> None:
        self._decoder = decoder

    def input(self, record: Any, now_ms: int) -> RecordView:
        """A record of the input topic, and why a worker refuses it, if so."""
        return self._of_input(record, now_ms, **_place(record))

    def dead_letter(self, record: Any, now_ms: int) -> RecordView:
        """A dead letter: the original, and its error. A record that is no envelope is shown unchanged."""
        place = _place(record)
        letter = read_letter(record.value, record.headers, record.key)
        if letter is None:
            error = "this is no dead letter of iot-stream: the value is not its envelope"
            return self._undecodable(record, error, **place)
        original = MqttRecord(
            None if letter.tombstone else letter.payload, record.timestamp, letter.headers, letter.key
        )
        view = self._of_input(original, now_ms, **place)
        found = msgspec.structs.replace(view, reason=letter.reason, stage=letter.stage, error=letter.error)
        return msgspec.structs.replace(found, headers=record.headers, key=record.key, more=_envelope(letter))

    def alert(self, record: Any, now_ms: int) -> RecordView:
        """An alert event, or an answer to refused rules or commands."""
        place = _place(record)
        topic = header(record, "mqtt_topic")
        try:
            ids = _ids(record.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return self._undecodable(record, f"this is no alert event: {error}", **place)
        kind = EVENT if topic is None else ANSWER
        return RecordView(
            **place, kind=kind, user_id=ids.user_id, device_id=ids.device_id, payload=record.value,
            headers=record.headers, key=record.key, trace_id=trace_id_of(record),
        )  # fmt: skip

    def mqtt(self, record: MqttRecord, topic: str, now_ms: int, place: dict[str, Any]) -> RecordView:
        """An MQTT message, and why a worker would refuse it. The headers shown are its user properties. `place`: where
        the message was, for JSON; the headers of `record` are replaced.
        """
        properties, record.headers = record.headers, [("mqtt_topic", topic.encode("utf-8", "replace"))]
        view = self._of_input(record, now_ms, where=topic, place=place, at_ms=record.timestamp)
        named = MqttRecord(b"", 0, properties)
        view = msgspec.structs.replace(view, headers=properties, trace_id=trace_id_of(named))
        if is_own_output(topic):
            kind = EVENT if topic.endswith("/alerts") else ANSWER
            user = topic.split("/")[1]
            return msgspec.structs.replace(view, kind=kind, user_id=user, reason="", stage="", error="")
        return view

    def _of_input(self, record: Any, now_ms: int, **place: Any) -> RecordView:
        found = self._decoder.decode(record, now_ms)
        refused = found.refused
        reason, stage, error = (refused.reason, refused.stage, refused.detail) if refused else ("", "", "")
        return RecordView(
            **place, kind=found.kind.value, user_id=found.user_id, device_id=found.device_id, payload=record.value,
            headers=record.headers, key=record.key, sequence_id=found.sequence_id, trace_id=trace_id_of(record),
            reason=reason, stage=stage, error=error,
        )  # fmt: skip

    def _undecodable(self, record: Any, error: str, **place: Any) -> RecordView:
        return RecordView(
            **place, kind=Kind.UNKNOWN.value, user_id="", device_id="", payload=record.value, headers=record.headers,
            key=record.key, error=error, more={"undecodable": True},
        )  # fmt: skip


def as_json(view: RecordView) -> dict[str, Any]:
    """All of a view as built-in types for JSON. What is no UTF-8 is in base64, under a name that says so."""
    found: dict[str, Any] = {**view.place, "time": time_of(view.at_ms), "timestamp_ms": view.at_ms, "kind": view.kind}
    found |= {"user_id": view.user_id, "device_id": view.device_id, "sequence_id": view.sequence_id}
    found |= {"trace_id": view.trace_id, **_text_or_base64("key", view.key)}
    found["headers"] = [{"name": name, **_text_or_base64("value", value)} for name, value in view.headers]
    if view.error or view.reason:
        found |= {"reason": view.reason or None, "stage": view.stage or None, "error": view.error}
    return {**found, **view.more, **_payload(view.payload)}


def _payload(payload: bytes | None) -> dict[str, Any]:
    """A payload as JSON, else as text, else in base64."""
    if payload is None:
        return {"payload": None, "tombstone": True}
    if (json := raw_json(payload)) is not None:
        return {"payload": json}
    return {"payload_text": payload.decode()} if is_text(payload) else {"payload_base64": b64encode(payload).decode()}


def _text_or_base64(name: str, value: bytes | None) -> dict[str, str | None]:
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(value).decode()}


def _place(record: Any) -> dict[str, Any]:
    where = f"{record.topic}-{record.partition}@{record.offset}"
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    return {"where": where, "place": place, "at_ms": record.timestamp}


def _envelope(letter: DeadLetter) -> dict[str, Any]:
    source = {"topic": letter.source_topic, "partition": letter.source_partition, "offset": letter.source_offset}
    return {
        "original_topic": letter.original_topic,
        "refused_at": letter.timestamp,
        "replay_count": letter.replay_count,
        "source": source,
    }
