"""Which values of a row PostgreSQL's types cannot hold, found without asking the server.

Only asked once something failed: asyncpg's encoder says that a batch is at fault, but not which row of it.
"""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from app.core.model.records import Row
from app.core.schema.schema import Schema
from app.errors import IotStreamError


class EncodingError(IotStreamError):
    """A value of some row does not fit its column's type."""


def fault(row: Row, schema: Schema) -> str | None:
    """Return the column and what is wrong with its value, or None when all of them fit."""
    for column, kind, value in zip(schema.names, schema.types, row, strict=True):
        check = _REQUIRED.get(column) or _optional(_CHECKS[kind])
        wrong = check(value)
        if wrong:
            return f"{column} {wrong}"
    return None


def _time(value: Any) -> str | None:
    if not isinstance(value, datetime):
        return "is not a time"
    return "has no time zone" if value.utcoffset() is None else None


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return "is not text"
    if "\0" in value:
        return "holds a NUL character"
    return "holds a lone surrogate" if any("\ud800" <= character <= "\udfff" for character in value) else None


def _integer(bits: int) -> Callable[[Any], str | None]:
    limit = 1 << (bits - 1)

    def check(value: Any) -> str | None:
        if not isinstance(value, int):
            return "is not an integer"
        return None if -limit <= value < limit else f"does not fit {bits} bits"

    return check


def _double(value: Any) -> str | None:
    return None if isinstance(value, int | float) else "is not a number"


def _optional(check: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    return lambda value: None if value is None else check(value)


_REQUIRED: dict[str, Callable[[Any], str | None]] = {
    "time": _time, "user_id": _text, "device_id": _text, "sequence_id": _integer(64), "extra_data": _text,
}  # fmt: skip
_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "double precision": _double,
    "bigint": _integer(64),
    "integer": _integer(32),
    "smallint": _integer(16),
    "boolean": lambda value: None if isinstance(value, bool) else "is not a boolean",
    "text": _text,
    "numeric": lambda value: None if isinstance(value, Decimal) else "is not a decimal",
}
