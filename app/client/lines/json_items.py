"""One line of JSON -> an event or a metric of protobuf, or why the line is neither; never raises.

The line is what the HTTP and TCP gateways take: a telemetry payload with user_id and device_id, or node_id and
sensor_id in it. A value that a field of the message can hold exactly goes into this field; all other values go
into extra_json, digit by digit.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import msgspec
from msgspec import Raw

from app.client.sent_batch import Item
from app.core.decode.fields import KnownFields, read_known
from app.core.decode.strict_json import read_fields
from app.core.model.fault import Fault, printable
from app.core.model.records import Kind, Reason, Stage
from app.core.routing.address import Address
from app.protobuf.events_pb2 import Event
from app.protobuf.metrics_pb2 import Metric

MAX_DEPTH = 32  # IOT_PAYLOAD_MAX_DEPTH of the gateway
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INT32 = 1 << 31
_NUMBER_LENGTH = 400  # of the longest double written out; a longer number is kept unchanged
_OWN = ("user_id", "device_id", "sequence_id", "timestamp")  # said by the message, or null and so not said
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class Owner(NamedTuple):
    """The owner of a line that does not name its own; None: such a line is a fault."""

    user: str | None = None  # or node
    device: str | None = None  # or sensor


def item_of(line: bytes, owner: Owner) -> Item | Fault:
    """The item of a line of JSON, which comes without its line break, or why the line is none. Never raises."""
    fields = read_fields(line, MAX_DEPTH)
    if isinstance(fields, Fault):
        return fields
    if "node_id" in fields or ("sensor_id" in fields and "device_id" not in fields):
        return _metric(fields, owner)
    user, device = _id(fields, "user_id", owner.user), _id(fields, "device_id", owner.device)
    if isinstance(user, Fault):
        return user
    if isinstance(device, Fault):
        return device
    known = read_known(fields, Address(Kind.TELEMETRY, user, device, lenient=True), ())
    if isinstance(known, Fault):
        return known
    item = Event(user_id=user, device_id=device, time_us=_us(known))
    if known.sequence_id is not None:
        item.sequence_id = known.sequence_id
    if (temperature := _double(fields, "temperature")) is not None:
        item.temperature = temperature
    if (battery := _int32(fields, "battery")) is not None:
        item.battery = battery
    _rest(item, fields, known)
    return item


def _metric(fields: dict[str, Raw], owner: Owner) -> Metric | Fault:
    node, sensor = _id(fields, "node_id", owner.user), _id(fields, "sensor_id", owner.device)
    if isinstance(node, Fault):
        return node
    if isinstance(sensor, Fault):
        return sensor
    known = read_known(fields, Address(Kind.TELEMETRY, node, sensor, lenient=True), ())
    if isinstance(known, Fault):
        return known
    item = Metric(node_id=node, sensor_id=sensor, time_us=_us(known))
    if known.sequence_id is not None:
        item.sequence_id = known.sequence_id
    if (value := _double(fields, "value")) is not None:
        item.value = value
    for name in ("node_id", "sensor_id"):
        fields.pop(name, None)
    _rest(item, fields, known)
    return item


def _id(fields: dict[str, Raw], name: str, otherwise: str | None) -> str | Fault:
    """The value as a string; an integer is taken as a string, as the worker takes it."""
    raw = bytes(fields.get(name, b"null"))
    if raw[:1] == b'"':
        return _text(raw)
    if raw.removeprefix(b"-").isdigit():
        return raw.decode()
    if raw != b"null":
        return Fault(Reason.WRONG_TYPE, Stage.VALIDATE, f"{name} is {printable(raw)}; send a string")
    if otherwise is None:
        return Fault(Reason.MISSING_FIELD, Stage.VALIDATE, f"{name} is missing")
    return otherwise


def _us(known: KnownFields) -> int:
    return 0 if known.time is None else (known.time - _EPOCH) // _MICROSECOND


def _double(fields: dict[str, Raw], name: str) -> float | None:
    """The number of a field, which is taken out, if a double is exactly this number."""
    raw = bytes(fields.get(name, b"null"))
    if raw[0] not in b"-0123456789" or len(raw) > _NUMBER_LENGTH:
        return None
    number = float(raw)
    if abs(number) == float("inf") or Decimal(repr(number)) != Decimal(raw.decode()):
        return None
    del fields[name]
    return number


def _int32(fields: dict[str, Raw], name: str) -> int | None:
    """The number of a field, if it is written as an integer that fits; the field is taken out then."""
    raw = bytes(fields.get(name, b"null"))
    if not raw.removeprefix(b"-").isdigit() or len(raw) > 11 or not -_INT32 <= int(raw) < _INT32:
        return None
    del fields[name]
    return int(raw)


def _rest(item: Item, fields: dict[str, Raw], known: KnownFields) -> None:
    for name in (*_OWN, known.time_field or ""):
        fields.pop(name, None)
    if fields:
        item.extra_json = _encode(fields)
