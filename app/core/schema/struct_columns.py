"""A field of a developer's struct -> the column that the field asks for, or what is wrong with the field."""

import keyword
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from msgspec import NODEFAULT
from msgspec.structs import FieldInfo

from app.core.schema.column_types import EXTRA, INTEGERS, KEY, TYPES, Bits, Column, ColumnType, Fields

# Fields of a payload that belong to no column of a struct's own.
_TAKEN_FIELDS = {*KEY, "timestamp"}
# "extra" and "extra_json" are attributes of every reading, the rest columns that PostgreSQL has in every table.
_TAKEN_NAMES = {*_TAKEN_FIELDS, EXTRA, "extra", "extra_json", "tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")  # an identifier of PostgreSQL, in small letters
_UNREADABLE = re.compile(r'[\x00-\x1f\x7f"\\]')  # what msgspec cannot compare with a field's name, and our own mark
_RIGHT_TYPES = "float, int, Int32, Int16, bool, str or Decimal, with | None when readings may lack it"


def column(field: FieldInfo, hint: Any) -> Column | str:
    """The column of a field with that type hint, or `field: what is wrong and what would be right`."""
    name = field.name
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name in _TAKEN_NAMES:
        taken = ", ".join(sorted(_TAKEN_NAMES))
        return f"{name}: a column is 1 to 63 small letters, digits and _, no keyword of Python, and none of {taken}"
    hint, marks, required = _plain(hint)
    for mark in marks:
        if not isinstance(mark, Bits | Fields):
            return f"{name}: {mark!r} is not for a column, only Fields(...) is; bounds of a value are a CHECK in SQL"
    if problem := _default(field, required):
        return f"{name}: {problem}"
    kind = _kind(hint, marks)
    if kind is None:
        return f"{name}: {_shown(hint)} is no type of a column: {_RIGHT_TYPES}"
    fields = next((mark.names for mark in marks if isinstance(mark, Fields)), (field.encode_name,))
    for one in fields:
        if not isinstance(one, str) or not one or _UNREADABLE.search(one):
            return f"{name}: {one!r} is no JSON field: a text without quotes, backslashes and control characters"
    return (
        Column(name, kind, required, fields) if fields else f'{name}: Fields() names no JSON field, as in Fields("x")'
    )


def conflicts(columns: list[Column]) -> Iterator[str]:
    """Yield a problem for columns that want the same JSON field, or a field that is read for every schema."""
    first: dict[str, str] = {}
    for one in columns:
        for field in one.fields:
            if field in _TAKEN_FIELDS:
                yield f"{one.name}: the JSON field {field} is read for every schema; name another"
            elif first.setdefault(field, one.name) != one.name:
                yield f"{one.name}: the JSON field {field} goes to {first[field]} already; name another"


def _plain(hint: Any) -> tuple[Any, list[Any], bool]:
    """The type itself, the marks of every Annotated around the type, and whether it goes without `| None`."""
    marks: list[Any] = []
    required = True
    while (origin := get_origin(hint)) is not None:
        parts = get_args(hint)
        if origin is Annotated:
            marks += parts[1:]
            hint = parts[0]
        elif origin in (Union, types.UnionType) and len(parts) == 2 and type(None) in parts:
            required = False
            hint = next(part for part in parts if part is not type(None))
        else:
            break
    return hint, marks, required


def _default(field: FieldInfo, required: bool) -> str | None:
    if field.default_factory is not NODEFAULT or field.default not in (NODEFAULT, None):
        shown = field.default if field.default is not NODEFAULT else "of a default_factory"
        return f"the default {shown!r} would never be stored: what a reading lacks is null; write `= None` or nothing"
    if field.default is None and required:
        return "its default is None, but its type has no | None; write one of them"
    return None


def _kind(hint: Any, marks: list[Any]) -> ColumnType | None:
    if hint is int:
        return INTEGERS[next((mark.bits for mark in marks if isinstance(mark, Bits)), 64)]
    return TYPES.get(hint) if isinstance(hint, type) else None


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and get_origin(hint) is None else str(hint)
