"""Kafka record -> its user, device and sequence_id, and whether a worker refuses it: by the worker's own decoder."""

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.core.decode.decoder import DecodeLimits, Decoder, hashed_id
from app.core.decode.strict_json import read_fields
from app.core.model.arrival import arrived_ms
from app.core.model.fault import Fault
from app.core.model.namespaces import IOT
from app.core.model.records import Kind, Reading, Record, Rejected
from app.core.routing.address import address_of
from app.core.routing.mqtt_topics import Route, route
from app.settings import Settings

TOPIC_HEADER = "mqtt_topic"
_PARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
_NUMBER = re.compile(rb'"?(-?[0-9]{1,19})"?').fullmatch
_text = msgspec.json.Decoder(str).decode


class DecodedRecord(Struct, frozen=True):
    """The content of a record. Of a refused record as much as can be read all the same; ids may then be empty."""

    kind: Kind
    user_id: str
    device_id: str
    way: str  # IOT, or empty
    sequence_id: int | None
    reading: Reading | None  # None: no telemetry, or refused
    refused: Rejected | None


class RecordDecoder:
    """A decoder with the limits and columns of the settings, as a worker has it."""

    def __init__(self, settings: Settings) -> None:
        self._depth = settings.payload_max_depth
        limits = DecodeLimits(settings.time_future_max, settings.time_past_max, settings.payload_max_bytes, self._depth)
        self._decoder = Decoder(limits, settings.telemetry_schema)

    def decode(self, record: Record, now_ms: int) -> DecodedRecord:
        """The content of a record, and why a worker refuses the record, if so. Never raises. `now_ms`, milliseconds
        since 1970, counts as its arrival where nothing that the record says of that is plausible.
        """
        address = address_of(record)
        if isinstance(address, Rejected):
            return self._of_what_there_is(record, _named(record), Kind.UNKNOWN, address)
        named = (address.user_id, address.device_id, IOT if address.lenient else "")
        if address.kind is not Kind.TELEMETRY:
            return self._of_what_there_is(record, named, address.kind, None)
        self._decoder.begin()
        found = self._decoder.decode(record, address, arrived_ms(record, now_ms))
        if isinstance(found, Rejected):
            return self._of_what_there_is(record, named, address.kind, found)
        return DecodedRecord(address.kind, found.user_id, found.device_id, named[2], found.sequence_id, found, None)

    def _of_what_there_is(
        self, record: Record, named: tuple[str, str, str], kind: Kind, refused: Rejected | None
    ) -> DecodedRecord:
        user, device, way = named
        fields = read_fields(record.value or b"", self._depth)
        fields = {} if isinstance(fields, Fault) else fields
        number = _NUMBER(bytes(fields.get("sequence_id", b"")))
        sequence = int(number[1]) if number else None
        if sequence is None and way == IOT and kind is Kind.TELEMETRY and record.value:
            sequence = hashed_id(record.value)
        user, device = user or _string(fields, "user_id"), device or _string(fields, "device_id")
        return DecodedRecord(kind, user, device, way, sequence, None, refused)


def header(record: Any, name: str) -> bytes | None:
    """The first header of that name that has a value; None: no header has."""
    return next((value for key, value in record.headers if key == name and value is not None), None)


def trace_id_of(record: Any) -> str | None:
    """The trace id of the header `traceparent`, 32 hex digits; None without a well-formed header."""
    found = _PARENT(header(record, "traceparent") or b"")
    return found[1].decode() if found else None


def _named(record: Record) -> tuple[str, str, str]:
    """Ids and way that a record with a bad address names: by its topic, else by its key."""
    topic = (header(record, TOPIC_HEADER) or b"").decode("utf-8", "replace")
    routed: Route = route(topic)
    if routed.kind is not Kind.UNKNOWN:
        return routed.user_id, routed.device_id, IOT if topic.startswith("iot/") else ""
    user, _, device = (record.key or b"").decode("utf-8", "ignore").partition("/")
    return (user, device, "") if device and not topic else ("", "", "")


def _string(fields: dict[str, Raw], name: str) -> str:
    try:
        return _text(bytes(fields.get(name, b'""')))
    except msgspec.DecodeError:
        return ""
