"""A row of CSV, all text -> the fields of a reading as JSON."""

import re
from collections.abc import Mapping

import msgspec
from msgspec import Raw

from app.core.schema.column_types import EXTRA, Column

_TEXTS = ("user_id", "device_id")
_TIMES = ("time", "timestamp")
_TRUTHS = {"t": b"true", "f": b"false"}  # as psql writes them
_short_offset = re.compile(r"[+-][0-9]{2}$").search  # psql's, for whole hours

_object = msgspec.json.Decoder(dict[str, Raw]).decode


def fields_of(row: Mapping[str, str | None], columns: Mapping[str, Column]) -> dict[str, Raw]:
    """The fields of a row as raw JSON: numbers, true and false are what they look like, everything else is text; an
    empty cell is no field.

    Ids are always text, and an object in the column extra_data is taken apart. `columns`: those of the schema, by name
    and by field (Schema.keys); a cell under the name of one is its first field, and of its type. Never raises.
    """
    fields: dict[str, Raw] = {}
    for name, cell in row.items():
        text, column = (cell or "").strip(), columns.get(name)
        if not text:
            continue
        if name == EXTRA and text.startswith("{"):
            fields |= _parts(text)
        elif column is None:
            fields[name] = _value(name, text)
        else:
            field = column.fields[0] if name == column.name and column.fields[0] not in row else name
            fields[field] = _typed(column, name, text)
    return fields


def _typed(column: Column, name: str, text: str) -> Raw:
    if column.type.python is str:
        return _text(text)
    if column.type.python is bool and text in _TRUTHS:
        return Raw(_TRUTHS[text])
    return _value(name, text)


def _parts(text: str) -> dict[str, Raw]:
    try:
        return _object(text)
    except (msgspec.DecodeError, RecursionError):
        return {EXTRA: _text(text)}


def _value(name: str, text: str) -> Raw:
    if name in _TEXTS:
        return _text(text)
    try:
        plain = isinstance(msgspec.json.decode(text), bool | int | float)
    except (msgspec.DecodeError, RecursionError):
        plain = False
    if plain:
        return Raw(text.encode())
    if name in _TIMES and ":" in text and _short_offset(text):
        return _text(f"{text}:00")
    return _text(text)


def _text(text: str) -> Raw:
    return Raw(msgspec.json.encode(text))
