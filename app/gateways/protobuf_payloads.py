"""One item in protobuf -> the JSON that a device would have sent over MQTT, or why the item is refused.

What is set in the message comes first, then the fields of its extra_json as they are.
"""

from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from app.core.decode.strict_json import jsonb_fault, read_fields
from app.core.model.fault import Fault, printable
from app.core.model.records import Reason
from app.gateways.payloads.look import MAX_DEPTH
from app.gateways.telemetry_record import Rejection
from app.protobuf.events_pb2 import Event
from app.protobuf.metrics_pb2 import Metric

REPEATED_FIELD = "repeated_field"  # extra_json says what the message says itself

# Up to the year 2223, before and after 1970, a double has seconds to the microsecond; the worker reads them so.
EXACT_US = 8_000_000_000_000_000
LARGEST = 1.7976931348623157e308  # of a double: NaN and the infinities do not lie between it and its negative
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BLANKS = b" \t\r\n"
_BACKSLASH, _BRACKET = b"\\["
EMPTY = b"{}"
_LONG = 2 * MAX_DEPTH - 2  # shorter JSON has no more levels, once it is within an object


class EventFields(Struct, omit_defaults=True, gc=False):
    """What an event says beside its ids and its extra_json."""

    sequence_id: int
    timestamp: float | str  # seconds since 1970
    temperature: float | None = None
    battery: int | None = None


class MetricFields(Struct, omit_defaults=True, gc=False):
    """What a metric says beside its ids and its extra_json."""

    value: float | None = None
    timestamp: float | str | None = None  # seconds since 1970
    sequence_id: int | None = None


class _Said(Struct, gc=False):
    """Of an extra_json, what the message may say too."""

    user_id: Raw | UnsetType = UNSET
    device_id: Raw | UnsetType = UNSET
    node_id: Raw | UnsetType = UNSET
    sensor_id: Raw | UnsetType = UNSET
    sequence_id: Raw | UnsetType = UNSET
    timestamp: Raw | UnsetType = UNSET
    temperature: Raw | UnsetType = UNSET
    battery: Raw | UnsetType = UNSET
    value: Raw | UnsetType = UNSET
    traceparent: Raw | UnsetType = UNSET  # which the message cannot say


encode = msgspec.json.Encoder().encode
_said = msgspec.json.Decoder(_Said).decode
_NOTHING = _Said()
_OWN: dict[type, tuple[str, ...]] = {  # said by every message
    EventFields: ("user_id", "device_id"),
    MetricFields: ("user_id", "device_id", "node_id", "sensor_id"),
}


def event_fields(item: Event) -> EventFields | Rejection:
    """What is set in an event, or why it is refused: sequence_id and time_us are required, a temperature is finite.
    Never raises.
    """
    if not item.HasField("sequence_id"):
        return _missing("sequence_id", "send a 64-bit integer that grows with each event")
    if not item.time_us:
        return _missing("time_us", "send when it was measured, in microseconds since 1970")
    if refusal := _not_finite("temperature", item.temperature):
        return refusal
    time = _time(item.time_us)
    if isinstance(time, Rejection):
        return time
    return EventFields(
        item.sequence_id,
        time,
        item.temperature if item.HasField("temperature") else None,
        item.battery if item.HasField("battery") else None,
    )


def metric_fields(item: Metric) -> MetricFields | Rejection:
    """What is set in a metric, or why it is refused: it needs a value, which is finite, or an extra_json.
    Never raises.
    """
    if not item.HasField("value") and not item.extra_json:
        return _missing("value", "send it, or an extra_json")
    if refusal := _not_finite("value", item.value):
        return refusal
    time = _time(item.time_us) if item.time_us else None
    if isinstance(time, Rejection):
        return time
    return MetricFields(
        item.value if item.HasField("value") else None,
        time,
        item.sequence_id if item.HasField("sequence_id") else None,
    )


def joined(
    fields: EventFields | MetricFields, extra: bytes, known: dict[bytes, bytes]
) -> tuple[bytes, bool] | Rejection:
    """(one JSON object, whether it has a traceparent), or why the item is refused. Never raises.

    It has `fields`, and those of `extra`, which is an object and says none of them again. An `extra` that says nothing
    that any message says, nor a traceparent, is noted in `known`, with what comes behind the fields of each item that
    has it.
    """
    try:
        said = _said(extra)
    except (msgspec.MsgspecError, RecursionError):
        return _fault(extra) or Rejection(Reason.BAD_JSON.value, f"extra_json is no JSON object: {printable(extra)}")
    own = said != _NOTHING
    if own:
        for name in (*fields.__struct_fields__, *_OWN[type(fields)]):
            if getattr(said, name) is not UNSET and getattr(fields, name, name) is not None:
                detail = f"extra_json has {name}, which the message says itself: leave out one of them"
                return Rejection(REPEATED_FIELD, detail)
    if not _plain(extra) and (fault := _fault(extra)):
        return fault
    head = encode(fields)
    rest = extra[1:] if extra.startswith(b'{"') else extra.strip(_BLANKS)[1:].lstrip(_BLANKS)
    if rest == b"}":
        return head, False
    if not own:
        known[extra] = b"," + rest
    traced = own and said.traceparent is not UNSET
    return (b"{" + rest if head == EMPTY else head[:-1] + b"," + rest), traced


def _plain(extra: bytes) -> bool:
    """Whether one look is enough, as for JSON (payloads/look.py)."""
    if not extra.isascii() or (_BACKSLASH in extra and b"\\u" in extra):  # of a number, not of bytes: look.py
        return False
    return len(extra) <= _LONG or extra.count(b"{") + (_BRACKET in extra and extra.count(b"[")) < MAX_DEPTH


def _fault(extra: bytes) -> Rejection | None:
    """What the worker would say of it, as far as that needs no columns."""
    fields = read_fields(extra, MAX_DEPTH)
    found = fields if isinstance(fields, Fault) else jsonb_fault(encode(fields).decode(), MAX_DEPTH)
    return Rejection(found.reason.value, f"extra_json: {found.detail}") if found else None


def _time(us: int) -> float | str | Rejection:
    """Seconds since 1970, or RFC 3339 where a double would lose microseconds."""
    if -EXACT_US < us < EXACT_US:
        return us / 1e6
    try:
        return (_EPOCH + timedelta(microseconds=us)).isoformat()
    except OverflowError:
        detail = f"time_us is {us}, no time in the years 1 to 9999; send microseconds since 1970"
        return Rejection(Reason.BAD_TIME.value, detail)


def _not_finite(name: str, number: float) -> Rejection | None:
    if -LARGEST <= number <= LARGEST:
        return None
    said = "NaN" if number != number else "infinite"
    return Rejection(Reason.OUT_OF_RANGE.value, f"{name} is {said}, for which JSON has no number: leave it out")


def _missing(name: str, wanted: str) -> Rejection:
    return Rejection(Reason.MISSING_FIELD.value, f"{name} is missing; {wanted}")
