"""Which fields most payloads have: learned from payloads that were read, so that the next payloads are read at one go.

A payload is otherwise read twice: for the fields that have a column, and for the JSON of all others. A struct that
names the others too reads the payload once, in a third of the time, and refuses a payload with a field that the struct
does not know. Such a payload is read twice, and its fields are known from then on.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta, Raw, Struct, defstruct, json

from app.core.schema.codegen import extras_maker, shaped_maker
from app.core.schema.column_types import INTEGERS, Column

# Each further name costs each payload 20 ns, with or without such a field; a sender of ever new names is not worth it.
NAMES_MAX = 16
MISSES_MAX = 32  # in a batch, then all payloads are read twice: a miss costs half a microsecond more
NOT_THERE = Raw(b"")  # no JSON is empty
# A field that is set later. Its name in JSON is never learned, and a payload with that name, whatever its value, is of
# another shape.
_SET_LATER = "\x7fextra"
_NO_VALUE = Annotated[str, Meta(min_length=1, max_length=0)]
_name = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,63}").fullmatch


class Unread(Struct, gc=False):
    """A payload of a shape that is not learned: none of its fields is known, not even its time."""

    text: str
    time: None = None


class LearnedShape:
    """A struct of the fields seen so far. `misses` counts the payloads of this batch that the struct did not fit."""

    def __init__(
        self,
        time: Any,
        columns: Sequence[Column],
        reading: Callable[..., Any],
        encode: Callable[[Any], bytes],
        misses_max: int = MISSES_MAX,
    ) -> None:
        """`time` is the type of a time. Columns that are read with care are allowed only where `misses_max` is 0."""
        self._time, self._columns, self._reading, self._encode = time, columns, reading, encode
        self._misses_max = misses_max
        self._named: dict[str, None] = {}
        self._time_field = ""
        self._known = {"timestamp", "time"}
        self._learned: Callable[[str], Any] = Unread
        self.misses = 0
        # JSON text -> time, ids, columns and the others as they are; Unread where nothing is learned. Raises
        # ValidationError for a payload of another shape.
        self.typed: Callable[[str], Any] = Unread
        self.make: Callable[..., Any]  # of what `typed` gives, time and ids: a Reading
        # Sets the `extra` of each of what `typed` gave, and returns all of them: what `typed` gives then has whatever a
        # Reading has, once its time and ids are set.
        self.extras: Callable[[Sequence[Any]], list[dict[str, Any]]]

    def begin(self) -> None:
        """A batch begins: its misses are counted from 0."""
        self.misses, self.typed = 0, self._learned

    def miss(self, text: str) -> Unread:
        """A payload was of another shape: the caller reads it twice, and after too many misses all of the batch."""
        self.misses += 1
        if self.misses >= self._misses_max:
            self.typed = Unread
        return Unread(text)

    def learn(self, time_field: str, extra: Mapping[str, Any]) -> None:
        """Learn the fields of a payload that was read twice, as far as there is room."""
        if self.misses >= self._misses_max:
            return
        new = [name for name in extra if name not in self._named and name not in self._known and _name(name)]
        if len(self._named) + len(new) > NAMES_MAX or (self._time_field and not new):
            return
        self._time_field = self._time_field or time_field
        self._named |= dict.fromkeys(new)
        self._compile()

    def _compile(self) -> None:
        names = tuple(self._named)
        rename = {"time": self._time_field, "extra": _SET_LATER}
        fields: list[Any] = [("time", self._time, None), ("user_id", str | None, None), ("device_id", str | None, None)]
        fields.append(("sequence_id", INTEGERS[64].typed | None, None))
        for one in self._columns:
            fields.append((one.name, one.type.typed) if one.required else (one.name, one.type.typed | None, None))
            rename[one.name] = one.fields[0]
        unmatched = {f"other_{number}": name for number, name in enumerate(names)}
        fields += [(other, Raw, NOT_THERE) for other in unmatched]
        fields.append(("extra", _NO_VALUE, None))
        encode = self._encode
        as_json = property(lambda it: encode(it.extra).decode())
        struct: type[Struct] = defstruct(
            "Shaped",
            fields,
            rename=rename | unmatched,
            namespace={"extra_json": as_json},
            gc=False,
            kw_only=True,
            forbid_unknown_fields=True,
        )
        columns = [one.name for one in self._columns]
        self.extras = extras_maker(names, NOT_THERE)
        self.make = shaped_maker(self._reading, columns, names, NOT_THERE, self._encode)
        self.typed = self._learned = json.Decoder(struct).decode
