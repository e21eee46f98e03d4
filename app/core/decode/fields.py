"""Raw JSON fields -> the columns of a reading, or the Fault of the first one that cannot be stored.

The careful way, whose faults name field and value. decoder.py has the same checks in one typed decoder and comes here
when the typed decoder refuses.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isinf
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.core.decode.odd_times import odd_time
from app.core.model.fault import Fault, printable
from app.core.model.records import Reason, Stage
from app.core.routing.address import Address
from app.core.schema.column_types import INTEGERS, Column, ColumnType

# From here on a number is milliseconds: as seconds it would be the year 5138, as milliseconds it is March 1973.
MILLISECONDS_FROM = 100_000_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGER = re.compile(rb"-?[0-9]+")
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,6})?")
_ANY_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_INT64_LENGTH, _EXPONENT_LENGTH = 20, 6  # characters; no int64 is longer
_BEYOND = 1 << 64
_EXPONENT = re.compile(rb"[eE]([-+]?[0-9]+)")
_DIGITS_MAX = 1000  # of a numeric; far more than any measurement has, far less than what PostgreSQL takes
_text = msgspec.json.Decoder(str).decode
_datetime = msgspec.json.Decoder(datetime).decode
_NULL = b"null"


class KnownFields(Struct, frozen=True, gc=False):
    """The fields that have a column; None where the payload has none or null. `time_field` is where `time` is from."""

    time: datetime | None
    time_field: str | None
    sequence_id: int | None
    user_id: str
    device_id: str
    values: tuple[Any, ...]  # of the schema's columns
    taken: frozenset[str]  # the fields that `values` come from


def read_known(fields: Mapping[str, Raw], address: Address, columns: Sequence[Column]) -> KnownFields | Fault:
    """Read the fields that have a column. Ids come from the address, or else from the payload. Never raises."""
    user_id = _identity(fields, "user_id", address.user_id)
    if isinstance(user_id, Fault):
        return user_id
    device_id = _identity(fields, "device_id", address.device_id)
    if isinstance(device_id, Fault):
        return device_id
    time_field = next((name for name in ("timestamp", "time") if bytes(fields.get(name, _NULL)) != _NULL), None)
    time = _time(time_field, bytes(fields[time_field])) if time_field else None
    if isinstance(time, Fault):
        return time
    number = bytes(fields.get("sequence_id", _NULL))
    sequence_id = None if number == _NULL else _integer("sequence_id", number, INTEGERS[64])
    if isinstance(sequence_id, Fault):
        return sequence_id
    values = []
    taken: set[str] = set()
    for column in columns:
        value = read_column(fields, column, taken)
        if isinstance(value, Fault):
            return value
        values.append(value)
    for name, value in (("sequence_id", sequence_id), ("timestamp", time)):
        if value is None and not address.lenient:
            return Fault(Reason.MISSING_FIELD, Stage.VALIDATE, f"{name} is missing; {_WANTED[name]}")
    return KnownFields(time, time_field, sequence_id, user_id, device_id, tuple(values), frozenset(taken))


def read_column(fields: Mapping[str, Raw], column: Column, taken: set[str]) -> Any | Fault:
    """The value of the first field of the column that is there and not null, else None or, if required, a Fault.

    The fields looked at are added to `taken`; the fields after the first that counts are left alone.
    """
    for name in column.fields:
        taken.add(name)
        raw = bytes(fields.get(name, _NULL))
        if raw != _NULL:
            return _READ[column.type.python](name, raw, column.type)
    if not column.required:
        return None
    detail = f"{' or '.join(column.fields)} is missing; {column.type.wanted}"
    return Fault(Reason.MISSING_FIELD, Stage.VALIDATE, detail)


def from_epoch(number: float) -> datetime:
    """Seconds, or milliseconds from MILLISECONDS_FROM on, since 1970; to the nearest microsecond.

    Raises OverflowError outside the years 1 to 9999.
    """
    if abs(number) >= MILLISECONDS_FROM:
        return _EPOCH + timedelta(milliseconds=number)
    return _EPOCH + timedelta(seconds=number)


_WANTED = {
    "sequence_id": "send a 64-bit integer that grows with each message",
    "timestamp": "send RFC 3339 with an offset (2026-11-21T02:00:00Z), or seconds or milliseconds since 1970",
    "time": "send RFC 3339 with an offset (2026-11-21T02:00:00Z), or seconds or milliseconds since 1970",
}


def _identity(fields: Mapping[str, Raw], name: str, expected: str) -> str | Fault:
    raw = bytes(fields.get(name, _NULL))
    if raw == _NULL or (raw == b'""' and not expected):
        if expected:
            return expected
        detail = f"{name} is missing; it must be in the payload when there is no header mqtt_topic"
        return Fault(Reason.MISSING_FIELD, Stage.VALIDATE, detail)
    # An integer agrees with the same digits in a topic. Without a topic nothing says what the id should be.
    if raw[0] != ord('"') and not (expected and _INTEGER.fullmatch(raw)):
        return Fault(Reason.WRONG_TYPE, Stage.VALIDATE, f"{name} is {printable(raw)}; send a string")
    value = _text(raw) if raw[0] == ord('"') else raw.decode()
    if expected and value != expected:
        detail = f"{name} is {printable(value)} in the payload but {printable(expected)} in the topic"
        return Fault(Reason.IDENTITY_MISMATCH, Stage.VALIDATE, f"{detail}; send the same or leave it out")
    if not expected and "/" in value:
        detail = f"{name} {printable(value)} contains '/': no topic names it; use an id without"
        return Fault(Reason.IDENTITY_MISMATCH, Stage.VALIDATE, detail)
    return value


def _time(name: str, raw: bytes) -> datetime | Fault:
    try:
        if raw[0] == ord('"'):
            time = _datetime(raw)
            if time.tzinfo is None:
                return _bad_time(name, raw, "has no offset")
            return time.astimezone(UTC)
        if raw[0] in b"-0123456789":
            # A float where int() would refuse the digits; both are far beyond the year 9999.
            return from_epoch(int(raw) if len(raw) < 20 and _INTEGER.fullmatch(raw) else float(raw))
    except (OverflowError, ValueError):  # also msgspec's, which is a ValueError
        if (words := odd_time(raw)) is not None:
            return Fault(Reason.BAD_TIME, Stage.VALIDATE, f"{name} {printable(raw)} {words}")
        return _bad_time(name, raw, "is no time in the years 1 to 9999")
    return Fault(Reason.WRONG_TYPE, Stage.VALIDATE, f"{name} is {printable(raw)}; {_WANTED[name]}")


def _bad_time(name: str, raw: bytes, problem: str) -> Fault:
    return Fault(Reason.BAD_TIME, Stage.VALIDATE, f"{name} {printable(raw)} {problem}; {_WANTED[name]}")


def _integer(name: str, raw: bytes, kind: ColumnType) -> int | Fault:
    """The integer that `raw` is exactly: 90, and also 90.0 or 9e1, as many a sender knows no numbers but floats."""
    wanted = _WANTED.get(name, kind.wanted)
    found = _whole(raw)
    if found is None:
        return _wrong_type(name, raw, wanted)
    limit = 1 << (kind.bits - 1)
    if not -limit <= found < limit:
        detail = f"{name} is {printable(raw)}, beyond {-limit} to {limit - 1}; {wanted}"
        return Fault(Reason.OUT_OF_RANGE, Stage.VALIDATE, detail)
    return found


def _whole(raw: bytes) -> int | None:
    """The integer that a JSON number is, exactly; None for a fraction or no number. For a number beyond 64 bits, any
    integer beyond them.
    """
    if _INTEGER.fullmatch(raw):
        return int(raw) if len(raw) <= _INT64_LENGTH else _BEYOND
    if not _ANY_NUMBER.fullmatch(raw):
        return None
    power = _EXPONENT.search(raw)
    if power and len(power[1]) > _EXPONENT_LENGTH:  # also when the number is 0: nobody means such an exponent
        return None if power[1].startswith(b"-") else _BEYOND
    number = Decimal(raw.decode())
    if number.adjusted() > _INT64_LENGTH:
        return _BEYOND
    whole = int(number)
    return whole if whole == number else None


def _float(name: str, raw: bytes, kind: ColumnType) -> float | Fault:
    if raw[0] not in b"-0123456789":
        return _wrong_type(name, raw, kind.wanted)
    number = float(raw)
    if isinf(number):
        detail = f"{name} is {printable(raw)}, beyond what a double can hold; {kind.wanted}"
        return Fault(Reason.OUT_OF_RANGE, Stage.VALIDATE, detail)
    return number


def _decimal(name: str, raw: bytes, kind: ColumnType) -> Decimal | Fault:
    digits = raw[1:-1] if raw[0] == ord('"') else raw
    if not _NUMBER.fullmatch(digits):
        return _wrong_type(name, raw, kind.wanted)
    if len(digits) > _DIGITS_MAX or ((power := _EXPONENT.search(digits)) and abs(int(power[1])) > _DIGITS_MAX):
        detail = f"{name} is {printable(raw)}; at most {_DIGITS_MAX} characters, and as large an exponent, are taken"
        return Fault(Reason.OUT_OF_RANGE, Stage.VALIDATE, detail)
    return Decimal(digits.decode())


def _bool(name: str, raw: bytes, kind: ColumnType) -> bool | Fault:
    return raw == b"true" if raw in (b"true", b"false") else _wrong_type(name, raw, kind.wanted)


def _str(name: str, raw: bytes, kind: ColumnType) -> str | Fault:
    return _text(raw) if raw[0] == ord('"') else _wrong_type(name, raw, kind.wanted)


def _wrong_type(name: str, raw: bytes, wanted: str) -> Fault:
    return Fault(Reason.WRONG_TYPE, Stage.VALIDATE, f"{name} is {printable(raw)}; {wanted}")


_READ: dict[type, Callable[[str, bytes, ColumnType], Any]] = {
    int: _integer, float: _float, Decimal: _decimal, bool: _bool, str: _str,
}  # fmt: skip
