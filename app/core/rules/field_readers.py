"""A rule's key -> a function that takes the key's value out of a Reading, fast."""

import contextlib
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal

import msgspec
from msgspec.json import Decoder

from app.core.model.alert_event import Value
from app.core.model.records import Reading
from app.core.schema.column_types import Column
from app.core.schema.schema import Schema

Kind = Literal["number", "text", "truth"]
Read = Callable[[Reading], Value | None]

# Lengths beyond which an alert's value is cut: the topic takes 1 MiB a message and people read it.
TEXT_MAX = 256
_FLOAT_MAX = 1.7976931348623157e308
_TYPES: dict[Kind, Any] = {"number": int | float, "text": str, "truth": bool}


_fields = Decoder(dict[str, msgspec.Raw]).decode
# Bytes. A longer object is taken apart once a reading, and a longer field decoded once, however many conditions look at
# it: a thousand conditions on a reading of 1 MiB would take a second. For shorter objects remembering costs more.
SMALL, LARGE = 128, 512


@lru_cache(maxsize=4096)  # many users watch the same keys
def reader(schema: Schema, key: str, kind: Kind) -> Read:
    """A function that reads `key` of a reading of `schema`: the value when it is of `kind` (JSON number, string,
    boolean).

    The function gives None for a field that is missing, null or of another kind. `a.b` is the field b in the object a,
    unless there is a field with the name "a.b". Keys must not hold quotes, backslashes or control characters (msgspec's
    limit).
    """
    if column := schema.keys.get(key):
        return _column(column, kind)
    wanted = _TYPES[kind]
    return _field(key, wanted) if "." not in key else _nested(key, wanted)


def _column(column: Column, kind: Kind) -> Read:
    if column.type.judged != kind:
        return lambda reading: None
    value = attrgetter(column.name)
    if column.type.python is not Decimal:
        return value

    def read(reading: Reading) -> Value | None:
        exact = value(reading)
        return None if exact is None else float(exact)

    return read


class _Taken:
    """What was taken apart of the reading looked at last, so that each part is decoded once for all rules.

    This is a cache and no state: without it the same values would be read, some of them a thousand times.
    """

    __slots__ = ("objects", "reading", "values")

    def __init__(self, reading: Reading | None) -> None:
        self.reading = reading
        self.objects: dict[str, dict[str, Any] | None] = {}  # by path; None: no object
        self.values: dict[tuple[str, Any], Value | None] = {}  # of large fields, by key and type


_last = [_Taken(None)]


def _taken(reading: Reading) -> _Taken:
    if _last[0].reading is not reading:
        _last[0] = _Taken(reading)
    return _last[0]


def _field(key: str, wanted: Any) -> Read:
    decode = Decoder(wanted).decode

    def read(reading: Reading) -> Value | None:
        raw = reading.extra.get(key)
        if raw is None:
            return None
        if len(raw) > LARGE:
            return _large(reading, key, raw, wanted, decode)
        try:
            value: Value = decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return value

    return read


def _nested(key: str, wanted: Any) -> Read:
    decode = Decoder(wanted).decode
    top, *path = key.split(".")
    inner, _, name = key.rpartition(".")
    whole = _field(key, wanted)

    def read(reading: Reading) -> Value | None:
        raw = reading.extra.get(top)
        if raw is None or key in reading.extra:
            return whole(reading)
        try:
            if len(raw) <= SMALL:
                for step in path:
                    raw = _fields(raw)[step]
            else:
                inside = _inside(reading, inner)
                if inside is None or (raw := inside.get(name)) is None:
                    return None
                if len(raw) > LARGE:
                    return _large(reading, key, raw, wanted, decode)
            value: Value = decode(raw)
        except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return value

    return read


def _inside(reading: Reading, path: str) -> dict[str, Any] | None:
    """The object at a path such as `engine.oil`, its fields as JSON; None where there is no object."""
    objects = _taken(reading).objects
    if path in objects:
        return objects[path]
    inner, _, name = path.rpartition(".")
    parent = _inside(reading, inner) if inner else reading.extra
    raw = parent.get(name) if parent is not None else None
    found = None
    if raw is not None:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            found = _fields(raw)
    objects[path] = found
    return found


def _large(reading: Reading, key: str, raw: Any, wanted: Any, decode: Callable[[Any], Value]) -> Value | None:
    values, known = _taken(reading).values, (key, wanted)
    if known not in values:
        values[known] = None
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            values[known] = decode(raw)
    return values[known]


def reportable(value: Value | None) -> Value | None:
    """The value in a form that an alert and the state can carry; None when the value cannot be judged.

    NaN and integers beyond float64 are None (1e400 is not readable either), integers beyond 64 bits become floats,
    and long strings are cut to TEXT_MAX characters.
    """
    if isinstance(value, str):
        return value if len(value) <= TEXT_MAX else value[: TEXT_MAX - 1] + "…"
    if value is None or not -_FLOAT_MAX <= value <= _FLOAT_MAX:
        return None
    return value if -(1 << 63) <= value < 1 << 63 or isinstance(value, float) else float(value)
