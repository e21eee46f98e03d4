"""A rule's key -> a function that takes the key's value out of a Reading, fast."""

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal

import msgspec
from msgspec.json import Decoder

from app.core.alerts import Value
from app.core.column_types import Column
from app.core.columns import in_force
from app.core.model import Reading

Kind = Literal["number", "text", "truth"]
Read = Callable[[Reading], Value | None]

# Lengths beyond which an alert's value is cut: the topic takes 1 MiB a message and people read it.
TEXT_MAX = 256
_FLOAT_MAX = 1.7976931348623157e308
_TYPES: dict[Kind, Any] = {"number": int | float, "text": str, "truth": bool}


@lru_cache(maxsize=4096)  # building the types of a nested key costs about 0.2 ms; many users watch the same keys
def reader(key: str, kind: Kind) -> Read:
    """Reader of `key` that gives its value when that is of `kind` (a JSON number, string or boolean), else None.

    None is a field that is missing, null or of another kind. `a.b` is the field b in the object a, unless there is a
    field with the name "a.b". Keys must not hold quotes, backslashes or control characters (msgspec's limit).
    """
    if column := in_force().keys.get(key):
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


def _field(key: str, wanted: Any) -> Read:
    decode = Decoder(wanted).decode

    def read(reading: Reading) -> Value | None:
        raw = reading.extra.get(key)
        if raw is None:
            return None
        try:
            value: Value = decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return value

    return read


def _nested(key: str, wanted: Any) -> Read:
    # One Struct a level, each with the one field the path goes through: the rest of the object is skipped, not built.
    top, *path = key.split(".")
    whole = _field(key, wanted)
    for name in reversed(path):
        wanted = msgspec.defstruct("Level", [("f", wanted)], rename={"f": name}, gc=False)
    decode = Decoder(wanted).decode
    follow = attrgetter(".".join("f" * len(path)))

    def read(reading: Reading) -> Value | None:
        raw = reading.extra.get(top)
        if raw is None or key in reading.extra:
            return whole(reading)
        try:
            value: Value = follow(decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return value

    return read


def reportable(value: Value | None) -> Value | None:
    """The value as an alert and the state can carry it; None when it cannot be judged.

    NaN and integers beyond float64 are None (1e400 is not readable either), integers beyond 64 bits become floats,
    and long strings are cut to TEXT_MAX characters.
    """
    if isinstance(value, str):
        return value if len(value) <= TEXT_MAX else value[: TEXT_MAX - 1] + "…"
    if value is None or not -_FLOAT_MAX <= value <= _FLOAT_MAX:
        return None
    return value if -(1 << 63) <= value < 1 << 63 or isinstance(value, float) else float(value)
