"""A reading in; out, the Event or Metric of proto/ that says the same, to the digit.

What has a field of its own there is in it, if that can say it; all else is in extra_json, under its JSON field's name.
"""

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from app.core.model.times import micros
from app.core.schema.column_types import Column
from app.core.schema.schema import Schema
from app.protobuf.events_pb2 import Event
from app.protobuf.metrics_pb2 import Metric
from app.sinks.record import SinkRecord

INT32 = 1 << 31
EXACT = 15  # a number of so many characters, without an exponent, is the same number as a double

_encode = msgspec.json.Encoder(decimal_format="number").encode
_SAID = frozenset({"sequence_id", "timestamp"})  # by every message, beside its ids
_EVENT_SAYS = _SAID | {"user_id", "device_id"}
_METRIC_SAYS = _SAID | {"node_id", "sensor_id"}

Extra = Callable[[Any, str | None], bytes]  # a reading, and a JSON field to leave out


def event_maker(schema: Schema) -> Callable[[SinkRecord], Event]:
    """The function from a record with a reading of `schema` to its Event; it never raises."""
    temperature, battery = _column(schema, "temperature", float), _column(schema, "battery", int)
    own = [one for one in (temperature, battery) if one is not None]
    extra = _extra_of([one for one in schema.columns if one not in own], _EVENT_SAYS)
    temperature_name = temperature.name if temperature else None
    battery_name = battery.name if battery else None

    def made(record: SinkRecord) -> Event:
        reading = record.reading
        degrees = getattr(reading, temperature_name) if temperature_name else None
        charge, rest = getattr(reading, battery_name) if battery_name else None, extra(reading, None)
        if charge is not None and not -INT32 <= charge < INT32:
            charge, rest = None, _with(rest, {"battery": charge})
        return Event(  # what is None is not set
            user_id=reading.user_id,
            device_id=reading.device_id,
            sequence_id=reading.sequence_id,
            time_us=micros(reading.time),
            temperature=degrees,
            battery=charge,
            extra_json=rest,
        )

    return made


def metric_maker(schema: Schema) -> Callable[[SinkRecord], Metric]:
    """The function from a record with a reading of a node to its Metric; it never raises."""
    column = _column(schema, "value", float)
    extra = _extra_of([one for one in schema.columns if one is not column], _METRIC_SAYS)
    name = column.name if column else None

    def made(record: SinkRecord) -> Metric:
        reading = record.reading
        value = getattr(reading, name) if name else _double(reading.extra.get("value"))
        rest = extra(reading, None if value is None or name else "value")
        return Metric(
            node_id=reading.user_id,
            sensor_id=reading.device_id,
            value=value,
            time_us=micros(reading.time),
            sequence_id=reading.sequence_id,
            extra_json=rest or (b"{}" if value is None else b""),  # a metric has a value, or an extra_json
        )

    return made


def _column(schema: Schema, field: str, kind: type) -> Column | None:
    """The column that comes from this JSON field, if it has this type of Python."""
    return next((one for one in schema.columns if one.fields[0] == field and one.type.python is kind), None)


def _extra_of(columns: list[Column], said: frozenset[str]) -> Extra:
    """The function from a reading to its extra_json: these columns and all other fields, but for those that the message
    says itself.
    """
    names = [(one.fields[0], one.name) for one in columns if one.fields[0] not in said]

    def extra(reading: Any, without: str | None) -> bytes:
        rest: str = reading.extra_json
        if without is not None or not said.isdisjoint(reading.extra):
            left = {name: raw for name, raw in reading.extra.items() if name not in said and name != without}
            rest = _encode(left).decode()
        text = b"" if rest == "{}" else rest.encode()
        if not names:
            return text
        found = {field: value for field, name in names if (value := getattr(reading, name)) is not None}
        return _with(text, found) if found else text

    return extra


def _with(extra: bytes, fields: Mapping[str, Any]) -> bytes:
    """An extra_json with more fields, which it has not."""
    said = _encode(fields)
    return b"%b,%b" % (said[:-1], extra[1:]) if extra else said


def _double(raw: Any) -> float | None:
    """The number that the JSON `raw` (msgspec.Raw, None: there is none) says, when a double says the same."""
    if raw is None:
        return None
    text = bytes(raw)
    try:
        number = float(text)  # takes "nan" and "1_0" too, which JSON has not
    except ValueError:
        return None
    if len(text) <= EXACT and b"e" not in text and b"E" not in text:
        return number
    return number if math.isfinite(number) and Decimal(repr(number)) == Decimal(text.decode()) else None
