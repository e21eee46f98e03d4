"""The fields of a reading as series name them, `engine.oil.temp` for what is nested; and a record without some."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from app.core.model.records import Reading
from app.sinks.record import SinkRecord

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def names_of(reading: Reading, columns: Sequence[str]) -> list[str]:
    """The columns that the reading has, then its other fields, those within objects by their path."""
    names = [column for column in columns if getattr(reading, column) is not None]
    if reading.extra_json.find("{", 1) < 0:
        return names + list(reading.extra)
    return names + list(_paths(reading.extra, ""))


def _paths(fields: Mapping[str, Any], before: str) -> Iterator[str]:
    for name, raw in fields.items():
        if bytes(memoryview(raw)[:1]) == b"{" and (inner := _fields(raw)):
            yield from _paths(inner, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def without(record: SinkRecord, left_out: Collection[str], columns: Mapping[str, str]) -> SinkRecord:
    """The record without these fields, its payload made anew; `columns`: name -> the JSON field that it is sent as."""
    reading: Reading = record.reading
    extra = _less(reading.extra, left_out, "")
    values = {name: None for name in columns if name in left_out}
    less = replace(reading, extra=extra, extra_json=_encode(extra).decode(), **values)
    return replace(record, reading=less, payload=payload_of(less, columns))


def payload_of(reading: Reading, columns: Mapping[str, str]) -> bytes:
    """A reading as a payload that would be decoded to it."""
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


def _less(fields: Mapping[str, Any], left_out: Collection[str], before: str) -> dict[str, Any]:
    """The fields but those whose path is left out; an object that has nothing left goes with them."""
    found: dict[str, Any] = {}
    for name, raw in fields.items():
        path = f"{before}{name}"
        if path in left_out:
            continue
        if any(one.startswith(f"{path}.") for one in left_out):
            inner = _less(_fields(raw), left_out, f"{path}.")
            if inner:
                found[name] = Raw(_encode(inner))
        else:
            found[name] = raw
    return found
