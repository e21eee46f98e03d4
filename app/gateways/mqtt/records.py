"""An MQTT message -> the Kafka record every gateway puts on the input topic: key, untouched value, headers."""

import re

import msgspec
from msgspec import Struct

from app.core.model.arrival import REPLAYED
from app.core.model.headers import PACKET_ID, REDELIVERED, RETAINED
from app.core.model.records import Kind
from app.core.routing.mqtt_topics import Route, manage_key, route
from app.gateways.mqtt.packets import MalformedPublish, Publish
from app.gateways.record import IngestRecord
from app.gateways.trace_context import trace_headers

# By tracemalloc a long topic takes 2.8 kB in this cache and that of mqtt_topics: 90 MB at most, whatever is published.
PREPARED_TOPICS = 32_768
PREPARED_LENGTH = 256
_COUNT = re.compile(r"[1-9][0-9]{0,8}")


class _ManagedDevice(Struct, gc=False):
    device_id: str
    way: str | None = None
    node_id: str | None = None


_device = msgspec.json.Decoder(_ManagedDevice)
_prepared: dict[str, tuple[Route, tuple[str, bytes], tuple[str, bytes]]] = {}


def to_record(message: Publish | MalformedPublish, ingest_ms: int) -> IngestRecord:
    """The record of one message, which came in at `ingest_ms`, milliseconds since 1970. Never raises; a damaged message
    is of kind unknown, keyed by its topic's bytes.
    """
    arrived = ("ingest_ms", b"%d" % ingest_ms)
    if isinstance(message, MalformedPublish):
        headers = [("mqtt_topic", message.topic), ("kind", Kind.UNKNOWN.value.encode()), arrived]
        headers += _delivery(message)
        again = message.again
        return IngestRecord(Kind.UNKNOWN, message.topic, message.payload, headers, message.packet_id, ingest_ms, again)
    routed, topic_header, kind_header = _prepared.get(message.topic) or _prepare(message.topic)
    headers = [topic_header, kind_header, arrived, *_delivery(message)]
    if message.properties:
        headers += _replays(message.properties)
    if message.properties or b"traceparent" in message.payload:
        headers += trace_headers(message.properties, message.payload)
    key = routed.key if routed.kind is not Kind.ALERTS_MANAGE else _manage_key(routed, message.payload)
    return IngestRecord(routed.kind, key, message.payload, headers, message.packet_id, ingest_ms, message.again)


def _delivery(message: Publish | MalformedPublish) -> list[tuple[str, bytes]]:
    """What distinguishes a repeated message from an equal one: its packet id, and its flag of a repeat.

    And whether the broker had retained it: such a message is history, published who knows when.
    """
    headers = [(PACKET_ID, b"%d" % message.packet_id)] if message.packet_id else []
    if message.again and message.packet_id:
        headers.append((REDELIVERED, b"1"))
    if message.retained:
        headers.append((RETAINED, b"1"))
    return headers


def _replays(properties: list[tuple[str, str]]) -> list[tuple[str, bytes]]:
    """How often the message was put back, by `dlq replay --to mqtt`. A device that says so of its own has its dead
    letters set aside sooner, and worries no limit with them.
    """
    count = next((value for name, value in properties if name == REPLAYED), "")
    return [(REPLAYED, count.encode())] if _COUNT.fullmatch(count) else []


def _prepare(topic: str) -> tuple[Route, tuple[str, bytes], tuple[str, bytes]]:
    routed = route(topic)
    entry = (routed, ("mqtt_topic", topic.encode()), ("kind", routed.kind.value.encode()))
    if len(topic) <= PREPARED_LENGTH:
        if len(_prepared) >= PREPARED_TOPICS:
            _prepared.clear()
        _prepared[topic] = entry
    return entry


def _manage_key(routed: Route, payload: bytes) -> bytes:
    """The key of the device the payload names; a device of iot/* has its node's, which is the user's."""
    try:
        found = _device.decode(payload)
        device_id = found.device_id
        key = routed.key if found.way == "iot" or found.node_id else manage_key(routed, device_id)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return routed.key
    return key if device_id and len(device_id) <= PREPARED_LENGTH else routed.key
