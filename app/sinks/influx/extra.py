"""The fields of a reading without a column, as JSON -> fields of a line.

A number becomes a float, or stays as sent, by setting; a boolean stays a boolean, a text a text; null is left out. Each
field of an object becomes a field under its path, as in rules (`engine.oil.temp`); an array becomes its JSON text.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from math import isinf
from typing import Any

import msgspec
from msgspec import Raw

from app.sinks.influx.escape import name as escaped
from app.sinks.influx.escape import quoted

# InfluxDB drops a field `time`, or refuses the whole line.
RESERVED = {"time": "time_"}
NAMES_MAX = 16_384  # cached names; a sender can invent any number
NAME_LONGEST = 256  # characters of a cached name
# Every path repeats the names of the objects around its field: without bounds, a payload of 1 MiB could become a line
# of gigabytes.
PARTS_MAX, PATH_LONGEST = 1000, 256  # fields within objects of one reading; characters
_PLAIN_LENGTH = 19  # characters; a shorter number without exponent is a finite float, and fits into int64
_NUMBER = frozenset("-0123456789")

_text = msgspec.json.Decoder(str).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode


class ExtraFields:
    """Makes the part of a line with the fields without a column, `name=value,` for each field."""

    def __init__(self, taken: frozenset[str], *, integers: bool) -> None:
        """`taken`: names of columns; a field with such a name is left out. `integers`: whether 3 stays an integer, or
        becomes a float like 3.5.
        """
        self._taken, self._suffix = taken, "i" if integers else ""
        self._leads: dict[str, str] = {}

    def line_part(self, extra: Mapping[str, Any]) -> str:
        """`a=1,b="x",` for these fields; empty when a line can hold none of them. Never raises."""
        made, leads, suffix = "", self._leads, self._suffix
        for name, raw in extra.items():
            lead = leads.get(name)
            if lead is None:
                lead = self._lead(name)
            text = str(raw, "utf-8")
            if text[0] in _NUMBER:
                if not suffix and len(text) < _PLAIN_LENGTH and "e" not in text and "E" not in text:
                    if lead:
                        made += f"{lead}{text},"
                    continue
                value = self._number(text)
            elif text[0] in "{[":
                return self._with_parts(extra)
            else:
                value = _other(text)
            if lead and value:
                made += f"{lead}{value},"
        return made

    def _lead(self, name: str) -> str:
        """`name=` in escaped form; empty for a field that a line cannot have."""
        found = RESERVED.get(name, name)
        lead = f"{escaped(found)}=" if found.strip() and found not in self._taken else ""
        if len(name) <= NAME_LONGEST:
            if len(self._leads) >= NAMES_MAX:
                self._leads.clear()
            self._leads[name] = lead
        return lead

    def _with_parts(self, extra: Mapping[str, Any]) -> str:
        """The same for fields with an object or array among them. A field whose name equals a path takes precedence."""
        found: dict[str, str] = {}
        for name, raw in extra.items():
            if lead := self._lead(name):
                _set(found, lead, self._value(str(raw, "utf-8")))
        for path, raw in _parts(extra):
            lead = self._lead(path)
            if lead and lead not in found:
                _set(found, lead, self._value(str(raw, "utf-8")))
        return "".join(f"{lead}{value}," for lead, value in found.items())

    def _value(self, text: str) -> str:
        if text[0] in _NUMBER:
            return self._number(text)
        return quoted(_on_one_line(text)) if text[0] == "[" else _other(text)

    def _number(self, text: str) -> str:
        """The number, with the digits as sent; empty for a number beyond a double, which no server takes."""
        whole = "." not in text and "e" not in text and "E" not in text
        if whole and self._suffix and len(text) <= 20 and -(1 << 63) <= int(text) < 1 << 63:
            return f"{text}{self._suffix}"
        return "" if isinf(float(text)) else text


def _other(text: str) -> str:
    """A text, true or false in line protocol; empty for null and for an object, whose fields are written instead."""
    if text[0] == '"':
        return quoted(_text(text)) if "\\" in text else text
    return text if text in ("true", "false") else ""


def _set(found: dict[str, str], lead: str, value: str) -> None:
    if value:
        found[lead] = value


def _on_one_line(array: str) -> str:
    """JSON without line breaks between its tokens: some servers split lines before they parse quotes."""
    return msgspec.json.format(array, indent=-1) if "\n" in array or "\r" in array else array


def _parts(extra: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields within objects, at any depth, each with its path: at most PARTS_MAX, and none with a path beyond
    PATH_LONGEST.
    """
    waiting, left = deque((name, raw) for name, raw in extra.items() if bytes(raw).startswith(b"{")), PARTS_MAX
    while waiting:
        path, raw = waiting.popleft()
        for name, inner in _object(raw).items():
            if len(path) + 1 + len(name) > PATH_LONGEST:
                continue
            if (left := left - 1) < 0:
                return
            inside = f"{path}.{name}"
            if bytes(inner).startswith(b"{"):
                waiting.append((inside, inner))
            else:
                yield inside, inner
