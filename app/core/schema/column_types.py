"""What a field of a schema's struct may be: Python's type -> how JSON says it, and PostgreSQL's type."""

from decimal import Decimal
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

KEY = ("time", "user_id", "device_id", "sequence_id")  # the columns of every schema, and its primary key
EXTRA = "extra_data"  # the last column: whatever else a payload has
Judged = Literal["number", "text", "truth"]  # what a rule compares its value with


class Bits:
    """How many bits an integer column has; an int without this annotation has 64."""

    def __init__(self, bits: int) -> None:
        self.bits = bits


class Fields:
    """The JSON fields a column comes from, at the top of the payload: the first that is there and not null."""

    def __init__(self, *names: str) -> None:
        self.names = names


Int32 = Annotated[int, Bits(32)]
Int16 = Annotated[int, Bits(16)]


class ColumnType(Struct, frozen=True):
    """One kind of column."""

    sql: str
    python: type
    typed: Any  # the type as which msgspec reads a value; None: the column is read with more care (fields.py)
    judged: Judged
    wanted: str  # what would be right, in words for the sender of something else
    bits: int = 0

    @property
    def ordered(self) -> bool:
        """Whether a reading has the very number that a rule compares: of a Decimal the rule takes the float."""
        return self.judged == "number" and self.python is not Decimal


def integer(bits: int, sql: str) -> ColumnType:
    """A whole number of so many bits."""
    limit = 1 << (bits - 1)
    typed = Annotated[int, Meta(ge=-limit, le=limit - 1)]
    return ColumnType(sql, int, typed, "number", f"send a {bits}-bit integer", bits)


INTEGERS = {64: integer(64, "bigint"), 32: integer(32, "integer"), 16: integer(16, "smallint")}
TYPES = {
    float: ColumnType("double precision", float, float, "number", "send a number"),
    int: INTEGERS[64],
    bool: ColumnType("boolean", bool, bool, "truth", "send true or false"),
    str: ColumnType("text", str, str, "text", "send a string"),
    # Exact, as prices have to be; many senders write a price as a string, so that nothing on the way makes it a float.
    Decimal: ColumnType("numeric", Decimal, None, "number", "send a number, or a string that is one"),
}


class Column(Struct, frozen=True):
    """A column of the struct's own."""

    name: str
    type: ColumnType
    required: bool
    fields: tuple[str, ...]  # of JSON; the first that is there and not null counts

    @property
    def careful(self) -> bool:
        """Whether msgspec's typed decoder alone cannot read the column."""
        return self.type.typed is None or len(self.fields) > 1
