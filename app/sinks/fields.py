"""The names of a reading's fields in series, `engine.oil.temp` for a nested field; and a record without some fields.

A name beyond PATH_LONGEST is cut and ends in its hash, which keeps the name unique. Names stay in memory, and the name
of an object is part of the name of each of its fields: a payload with a long name and many fields would take gigabytes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace
from xxhash import xxh3_64_hexdigest

from app.core.model.records import Reading
from app.sinks.record import SinkRecord

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
PATH_LONGEST = 256  # characters


def names_of(reading: Reading, columns: Sequence[str]) -> list[str]:
    """The columns that the reading has, then its other fields; a field within an object by its path."""
    names = [column for column in columns if getattr(reading, column) is not None]
    if reading.extra_json.find("{", 1) < 0:
        return names + [name if len(name) <= PATH_LONGEST else _path("", name) for name in reading.extra]
    return names + list(_paths(reading.extra, ""))


def _path(before: str, name: str) -> str:
    path = f"{before}{name}"
    if len(path) <= PATH_LONGEST:
        return path
    return f"{path[: PATH_LONGEST - 17]}~{xxh3_64_hexdigest(path.encode('utf-8', 'surrogatepass'))}"


def _paths(fields: Mapping[str, Any], before: str) -> Iterator[str]:
    for name, raw in fields.items():
        path = _path(before, name)
        if _is_object(raw) and (inner := _fields(raw)):
            yield from _paths(inner, f"{path}.")
        else:
            yield path


def _is_object(raw: Any) -> bool:
    return bytes(memoryview(raw)[:1]) == b"{"


def without(record: SinkRecord, left_out: Collection[str], columns: Mapping[str, str]) -> SinkRecord:
    """The record without these fields, with a new payload; `columns`: name -> JSON field of the column."""
    reading: Reading = record.reading
    left_out = frozenset(left_out)
    extra = _less(reading.extra, left_out, "")
    values = {name: None for name in columns if name in left_out}
    less = replace(reading, extra=extra, extra_json=_encode(extra).decode(), **values)
    return replace(record, reading=less, payload=payload_of(less, columns))


def payload_of(reading: Reading, columns: Mapping[str, str]) -> bytes:
    """The payload that decodes to this reading."""
    found = {name: value for name in columns if (value := getattr(reading, name)) is not None}
    return _encode(
        {
            "user_id": reading.user_id,
            "device_id": reading.device_id,
            "sequence_id": reading.sequence_id,
            "timestamp": reading.time,
            **{columns[name]: value for name, value in found.items()},
            **reading.extra,
        }
    )


def _less(fields: Mapping[str, Any], left_out: Collection[str], before: str) -> Mapping[str, Any]:
    """The fields whose path is not in `left_out`; an object without any field left is removed too. Returns `fields`
    itself when no field is removed.
    """
    found: dict[str, Any] = {}
    changed = False
    for name, raw in fields.items():
        path = _path(before, name)
        if path in left_out:
            changed = True
            continue
        if _is_object(raw) and (every := _fields(raw)):
            inner = _less(every, left_out, f"{path}.")
            if inner is not every:
                changed = True
                if inner:
                    found[name] = Raw(_encode(inner))
                continue
        found[name] = raw
    return found if changed else fields
