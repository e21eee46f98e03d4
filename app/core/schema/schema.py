"""A struct -> the Schema that decoding, rows, SQL and rules follow; worked out once, at the start."""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import NODEFAULT, Meta, Struct, defstruct

from app.core.model.records import Reading, Row
from app.core.schema.codegen import row_maker
from app.core.schema.column_types import EXTRA, INTEGERS, KEY, Column
from app.core.schema.struct_columns import column, conflicts
from app.errors import SettingsError

TIME = Annotated[datetime, Meta(tz=True)] | int | float | None


class Schema(Struct, frozen=True, eq=False):
    """The columns of a developer's struct, and the functions and types that are made of them."""

    name: str
    columns: tuple[Column, ...]
    reading: Callable[..., Reading]  # a type: fields of Reading, then the columns in order
    typed: Callable[[str], Any]  # JSON text -> times, ids and columns; raises what msgspec raises
    row: Callable[[Reading], Row]
    keys: dict[str, Column]  # what a rule may call a column: its name, or a JSON field it comes from

    @property
    def names(self) -> tuple[str, ...]:
        """All columns of a row, in order."""
        return (*KEY, *(column.name for column in self.columns), EXTRA)

    @property
    def types(self) -> tuple[str, ...]:
        """PostgreSQL's types of all columns of a row, in order."""
        return ("timestamptz", "text", "text", "bigint", *(column.type.sql for column in self.columns), "jsonb")


@lru_cache(maxsize=8)
def schema_of(struct: type[Struct]) -> Schema:
    """The Schema of a struct. Raises SettingsError that names all that is wrong with the struct."""
    hints = get_type_hints(struct, include_extras=True)
    columns, problems = list[Column](), list[str]()
    for field in msgspec.structs.fields(struct):
        found = column(field, hints[field.name])
        if isinstance(found, Column):
            columns.append(found)
        else:
            problems.append(found)
    problems += conflicts(columns)
    if problems:
        raise SettingsError("\n".join(f"{struct.__name__}.{problem}" for problem in problems))
    names = tuple(one.name for one in columns)
    fields = [(one.name, one.type.python | None, None) for one in columns]
    reading: Any = defstruct("Reading", fields, bases=(Reading,), frozen=True, gc=False)
    return Schema(
        struct.__name__,
        tuple(columns),
        reading,
        msgspec.json.Decoder(_typed(columns)).decode,
        row_maker((*KEY, *names, "extra_json")),
        {field: one for one in columns for field in one.fields} | {one.name: one for one in columns},
    )


def _typed(columns: list[Column]) -> type[Struct]:
    """A struct with a place for every column. A column that is read with more care gets a name that no device sends;
    its value is set later.
    """
    fields: list[Any] = [
        ("timestamp", TIME, None), ("time", TIME, None), ("user_id", str | None, None),
        ("device_id", str | None, None), ("sequence_id", INTEGERS[64].typed | None, None),
    ]  # fmt: skip
    rename = {}
    for number, one in enumerate(columns):
        # A field with a default may not come before a field without, so all go by keyword.
        kind = Any if one.careful else one.type.typed if one.required else one.type.typed | None
        fields.append((one.name, kind, NODEFAULT if one.required and not one.careful else None))
        rename[one.name] = f"\x7f{number}" if one.careful else one.fields[0]
    return defstruct("Typed", fields, rename=rename, gc=False, kw_only=True)
