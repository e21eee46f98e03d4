"""A reading in; out, the equal Event or Metric of proto/, exact to the digit.

A value is in the message's own field if the message has one that can hold the value exactly, else in extra_json under
the name of its JSON field.
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
EXACT = 15  # a number of at most 15 characters without an exponent is exact as a double

_encode = msgspec.json.Encoder(decimal_format="number").encode
_SAID = frozenset({"sequence_id", "timestamp"})  # in every message, beside its ids
_EVENT_SAYS = _SAID | {"user_id", "device_id"}
_METRIC_SAYS = _SAID | {"node_id", "sensor_id"}

Extra = Callable[[Any, str | None], bytes]  # a reading, and a JSON field to leave out


def event_maker(schema: Schema) -> Callable[[SinkRecord], Event]:
    """The function from a record with a reading of `schema` to its Event. The function never raises."""
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
        return Event(  # a field that is None is not set
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
    """The function from a record with a reading of a node to its Metric. The function never raises."""
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
    """The column that is read from this JSON field, if its Python type is `kind`."""
    return next((one for one in schema.columns if one.fields[0] == field and one.type.python is kind), None)


def _extra_of(columns: list[Column], said: frozenset[str]) -> Extra:
    """The function from a reading to its extra_json: these columns and all other fields, except `said`, which have
    fields of their own in the message.
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
    """An extra_json with additional fields."""
    said = _encode(fields)
    return b"%b,%b" % (said[:-1], extra[1:]) if extra else said


def _double(raw: Any) -> float | None:
    """The number in the JSON `raw` (msgspec.Raw, or None), if a double is exactly this number."""
    if raw is None:
        return None
    text = bytes(raw)
    try:
        number = float(text)  # accepts "nan" and "1_0" too, which are not JSON
    except ValueError:
        return None
    if len(text) <= EXACT and b"e" not in text and b"E" not in text:
        return number
    return number if math.isfinite(number) and Decimal(repr(number)) == Decimal(text.decode()) else None
