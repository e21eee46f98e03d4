"""One line of InfluxDB's line protocol -> its measurement, tags, fields and time, or what is wrong with it.

The grammar is that of InfluxDB 1.x and 2.x: `measurement[,tag=value...] field=value[,field=value...] [time]`. A
backslash escapes a comma or a blank, in keys and tag values also an equals sign, in a quoted string a quote or another
backslash; before anything else it is a character like others. Every step is linear in the length of the line.
"""

import re
from enum import Enum
from math import isinf
from typing import NamedTuple

import msgspec

from app.core.model.fault import printable
from app.core.model.records import Reason

BAD_LINE = "bad_line"  # the reason of a line that does not follow the grammar


class Precision(Enum):
    """The unit of times; each value is its nanoseconds."""

    NANOSECONDS = 1
    MICROSECONDS = 1_000
    MILLISECONDS = 1_000_000
    SECONDS = 1_000_000_000
    MINUTES = 60_000_000_000
    HOURS = 3_600_000_000_000


# What `precision=` may say: n, u, ms, s, m, h in /write of 1.x, ns, us, ms, s in /api/v2/write; both ways know all.
PRECISIONS = {
    "n": Precision.NANOSECONDS,
    "ns": Precision.NANOSECONDS,
    "u": Precision.MICROSECONDS,
    "us": Precision.MICROSECONDS,
    "µ": Precision.MICROSECONDS,
    "ms": Precision.MILLISECONDS,
    "s": Precision.SECONDS,
    "m": Precision.MINUTES,
    "h": Precision.HOURS,
}


class InfluxPoint(NamedTuple):
    """What a line says. Fields are name -> JSON text, numbers with the digits that were sent; `time` as sent, or ""."""

    measurement: str
    tags: dict[str, str]
    fields: dict[str, str]
    time: str


class LineFault(NamedTuple):
    """Why a line is refused: a value of Reason, or BAD_LINE; and one line of text for the sender."""

    reason: str
    error: str


_Fields = tuple[dict[str, str], int]

_MEASUREMENT = re.compile(r"(?:[^, \\]|\\.?)*+")
_NAME = re.compile(r"(?:[^,= \\]|\\.?)*+")  # of a tag or a field; also a tag's value
_STRING = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_VALUE = re.compile(r"[^, ]*+")
_IN_MEASUREMENT = re.compile(r"\\([, ])")
_IN_NAME = re.compile(r"\\([,= ])")
_IN_STRING = re.compile(r'\\(["\\])')
_INTEGER = re.compile(r"([-+]?)([0-9]+)([iu])")
_FLOAT = re.compile(r"([-+]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([-+]?[0-9]+))?")
_TIME = re.compile(r"-?[0-9]+")
_NO_NUMBER = ("nan", "inf", "infinity")
_BOOLEANS = dict.fromkeys(("t", "T", "true", "True", "TRUE"), "true") | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), "false"
)
_INT64, _UINT64 = range(-(1 << 63), 1 << 63), range(1 << 64)
_DIGITS_MAX = 20  # of any integer that fits
_WANTED = "a number, an integer as 80i, true, false, or a text in double quotes"
_to_json = msgspec.json.Encoder().encode


def read_line(line: str) -> InfluxPoint | LineFault:
    """Read a line without its line end; it may hold one inside of a quoted string. Never raises."""
    if "\0" in line:
        return LineFault(Reason.NUL_CHARACTER.value, "the line contains U+0000, which no text column can hold")
    line = line.lstrip(" \t").rstrip(" \t\r")
    at = _end(_MEASUREMENT, line, 0)
    measurement = line[:at]
    if not measurement:
        return LineFault(BAD_LINE, f"no measurement at {_near(line, 0)}; a line is `measurement,tag=a field=1 time`")
    if "\\" in measurement:
        measurement = _IN_MEASUREMENT.sub(r"\1", measurement)
    tags = _read_tags(line, at)
    if isinstance(tags, LineFault):
        return tags
    fields = _read_fields(line, tags[1])
    if isinstance(fields, LineFault):
        return fields
    time = line[fields[1] :].strip(" \t")
    if time and not _TIME.fullmatch(time):
        return LineFault(Reason.BAD_TIME.value, f"the time is {printable(time)}; send an integer, or none")
    return InfluxPoint(measurement, tags[0], fields[0], time)


def seconds(time: str, precision: Precision) -> str | LineFault:
    """A time as JSON: seconds since 1970 with the digits after the point that it has; or why it is refused. `time` is
    an integer as text, in units of `precision`.
    """
    unit = precision.value
    digits = time.lstrip("-").lstrip("0")
    number = int(digits or "0") * unit if len(digits) <= _DIGITS_MAX else 1 << 63
    if number >= (1 << 63) - 1:  # as in InfluxDB, which keeps nanoseconds as an int64
        return LineFault(Reason.BAD_TIME.value, f"the time {printable(time)} is beyond the years 1677 to 2262")
    whole, rest = divmod(number, 10**9)
    sign = "-" if number and time.startswith("-") else ""
    places = {1: 9, 1_000: 6, 1_000_000: 3}.get(unit)
    return f"{sign}{whole}.{rest // unit:0{places}d}" if places else f"{sign}{whole}"


def _read_tags(line: str, at: int) -> tuple[dict[str, str], int] | LineFault:
    """The tags from `at` on, which is behind the measurement, and where they end."""
    tags: dict[str, str] = {}
    while line.startswith(",", at):
        middle = _end(_NAME, line, at + 1)
        name = _unescaped(_IN_NAME, line[at + 1 : middle])
        if not line.startswith("=", middle) or not name:
            return LineFault(BAD_LINE, f"a tag is missing its name or = at {_near(line, at)}; write ,tag=value")
        at = _end(_NAME, line, middle + 1)
        value = _unescaped(_IN_NAME, line[middle + 1 : at])
        if not value:
            return LineFault(BAD_LINE, f"the tag {printable(name)} has no value; leave it out")
        if line.startswith("=", at):
            return LineFault(BAD_LINE, f"the tag {printable(name)} has an = in its value; write \\=")
        if name in tags:
            return LineFault(BAD_LINE, f"the tag {printable(name)} stands twice")
        tags[name] = value
    return tags, at


def _read_fields(line: str, at: int) -> _Fields | LineFault:
    """The fields from `at` on, which is behind the tags, and where they end. Of a repeated name the last counts."""
    fields: dict[str, str] = {}
    at = _skip(line, at)
    if at == len(line):
        return LineFault(BAD_LINE, "there is no field; a line is `measurement,tag=a field=1 time`")
    while True:
        middle = _end(_NAME, line, at)
        name = _unescaped(_IN_NAME, line[at:middle])
        if not line.startswith("=", middle) or not name:
            return LineFault(BAD_LINE, f"a field is missing its name or = at {_near(line, at)}; write field=value")
        found = _read_value(name, line, middle + 1)
        if isinstance(found, LineFault):
            return found
        fields[name], at = found
        if at == len(line) or line[at] == " ":
            return fields, at
        if line[at] != ",":
            return LineFault(BAD_LINE, f"{_near(line, at)} behind the text of {printable(name)}; write , or a blank")
        at += 1


def _read_value(name: str, line: str, at: int) -> tuple[str, int] | LineFault:
    """A field's value as JSON, and where it ends."""
    if line.startswith('"', at):
        text = _STRING.match(line, at)
        if text is None:
            error = f'the text of {printable(name)} has no closing quote on this line; write \\" for a quote in it'
            return LineFault(BAD_LINE, error)
        return _to_json(_unescaped(_IN_STRING, text[1])).decode(), text.end()
    end = _end(_VALUE, line, at)
    found = _json_value(line[at:end])
    return found._replace(error=f"{printable(name)} {found.error}") if isinstance(found, LineFault) else (found, end)


def _json_value(value: str) -> str | LineFault:
    """A number or boolean as JSON. Faults lack the name of the field."""
    if (boolean := _BOOLEANS.get(value)) is not None:
        return boolean
    if number := _INTEGER.fullmatch(value):
        return _integer(value, *number.groups())
    if (number := _FLOAT.fullmatch(value)) and (number[2] or number[3]):
        return _float(value, *number.groups())
    if value.lstrip("+-").lower() in _NO_NUMBER:
        return LineFault(BAD_LINE, f"is {printable(value)}, which is no number; leave the field out")
    return LineFault(BAD_LINE, f"is {printable(value) or 'empty'}; send {_WANTED}")


def _integer(value: str, sign: str, digits: str, suffix: str) -> str | LineFault:
    digits = digits.lstrip("0") or "0"
    number = int(digits) if len(digits) <= _DIGITS_MAX else 1 << 64
    number = -number if sign == "-" else number
    if number not in (_INT64 if suffix == "i" else _UINT64):
        wanted = "64 bits with a sign" if suffix == "i" else "64 bits without a sign"
        return LineFault(Reason.OUT_OF_RANGE.value, f"is {printable(value)}, which does not fit into {wanted}")
    return str(number)


def _float(value: str, sign: str, whole: str, fraction: str | None, exponent: str | None) -> str | LineFault:
    """The number in JSON's way of writing: no + and no zeros before it, digits on both sides of a point."""
    if isinf(float(value)):
        return LineFault(Reason.OUT_OF_RANGE.value, f"is {printable(value)}, beyond what a double can hold")
    text = f"{'-' if sign == '-' else ''}{whole.lstrip('0') or '0'}"
    if fraction:
        text += f".{fraction}"
    return f"{text}e{exponent}" if exponent else text


def _unescaped(pattern: "re.Pattern[str]", text: str) -> str:
    return pattern.sub(r"\1", text) if "\\" in text else text


def _end(pattern: "re.Pattern[str]", line: str, at: int) -> int:
    """Where a run of characters ends, which may be empty."""
    found = pattern.match(line, at)
    return found.end() if found else at


def _skip(line: str, at: int) -> int:
    while at < len(line) and line[at] in " \t":
        at += 1
    return at


def _near(line: str, at: int) -> str:
    return printable(line[at : at + 30]) or "the end of the line"
