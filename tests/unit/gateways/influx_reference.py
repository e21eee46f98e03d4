"""A second reading of the line protocol: character by character, slow, and of another hand than the one in app/.

It follows InfluxDB's documentation. What it makes of a line is (measurement, tags, fields, time), a field being
("float", Decimal), ("integer", int), ("boolean", bool) or ("text", str); a line that it does not take is None.
"""

from decimal import Decimal
from typing import Any

Line = tuple[str, dict[str, str], dict[str, tuple[str, Any]], str]


class _Wrong(Exception):
    pass


def split(body: str) -> list[str]:
    """The lines of a body: a line end within a quoted text is none, unless that text never ends."""
    lines, at, given_up = list[str](), 0, False
    while at <= len(body):
        end = _line_end(body, at) if not given_up else None
        if end is None:
            found = body.find("\n", at)
            end = len(body) if found < 0 else found
            given_up = True
        lines.append(body[at:end])
        at = end + 1
    return lines


def _line_end(body: str, at: int) -> int | None:
    """None: a quoted text begins on this line and never ends."""
    while at < len(body) and body[at] in " \t":
        at += 1
    comment, in_fields = body.startswith("#", at), False
    while at < len(body) and body[at] != "\n":
        if comment:
            at += 1
        elif body[at] == "\\":
            at += 1 if body[at + 1 : at + 2] in ("\n", "") else 2
        elif in_fields and body.startswith('="', at):
            at += 2
            while at < len(body) and body[at] != '"':
                at += 2 if body[at] == "\\" else 1
            if at >= len(body):
                return None
            at += 1
        else:
            in_fields = in_fields or body[at] == " "
            at += 1
    return at


def read(line: str) -> Line | None:
    """What a line says; None when it is wrong. It is neither blank nor a comment."""
    try:
        return _read(line.lstrip(" \t").rstrip(" \t\r"))
    except _Wrong:
        return None


def _read(line: str) -> Line:
    if "\0" in line:
        raise _Wrong
    measurement, at = _word(line, 0, ", ", ", ")
    tags: dict[str, str] = {}
    while line[at : at + 1] == ",":
        name, at = _word(line, at + 1, ",= ", ",= ")
        if line[at : at + 1] != "=":
            raise _Wrong
        value, at = _word(line, at + 1, ",= ", ",= ")
        if line[at : at + 1] == "=" or name in tags:
            raise _Wrong
        tags[name] = value
    fields: dict[str, tuple[str, Any]] = {}
    while line[at : at + 1] in (" ", "\t") and line[at : at + 1]:
        at += 1
    while True:
        name, at = _word(line, at, ",= ", ",= ")
        if line[at : at + 1] != "=":
            raise _Wrong
        at += 1
        if line[at : at + 1] == '"':
            text, at = _text(line, at + 1)
            fields[name] = ("text", text)
            if line[at : at + 1] not in ("", ",", " "):
                raise _Wrong
        else:
            end = at
            while end < len(line) and line[end] not in ", ":
                end += 1
            fields[name] = _value(line[at:end])
            at = end
        if line[at : at + 1] != ",":
            break
        at += 1
    time = line[at:].strip(" \t")
    if time and not (time.removeprefix("-").isascii() and time.removeprefix("-").isdigit()):
        raise _Wrong
    return measurement, tags, fields, time


def _word(line: str, at: int, ends: str, escaped: str) -> tuple[str, int]:
    """A name or tag value, which is not empty, and where it ends."""
    word = ""
    while at < len(line) and line[at] not in ends:
        if line[at] == "\\" and at + 1 < len(line):
            # The pair is taken together; the backslash stays where it escapes nothing.
            word += line[at + 1] if line[at + 1] in escaped else line[at : at + 2]
            at += 2
        else:
            word += line[at]
            at += 1
    if not word:
        raise _Wrong
    return word, at


def _text(line: str, at: int) -> tuple[str, int]:
    text = ""
    while at < len(line):
        if line[at] == '"':
            return text, at + 1
        if line[at] == "\\" and at + 1 < len(line):
            text += line[at + 1] if line[at + 1] in '"\\' else line[at : at + 2]
            at += 2
        else:
            text += line[at]
            at += 1
    raise _Wrong


def _value(value: str) -> tuple[str, Any]:
    if value in ("t", "T", "true", "True", "TRUE"):
        return "boolean", True
    if value in ("f", "F", "false", "False", "FALSE"):
        return "boolean", False
    if value[-1:] in ("i", "u"):
        digits = value[:-1]
        if (
            not digits.lstrip("+-").isascii()
            or not digits.lstrip("+-").isdigit()
            or len(digits.lstrip("+-")) < len(digits) - 1
        ):
            raise _Wrong
        number = int(digits)
        if not (-(2**63) <= number < 2**63 if value[-1] == "i" else 0 <= number < 2**64):
            raise _Wrong
        return "integer", number
    if not value or set(value) - set("+-.0123456789eE"):
        raise _Wrong  # also NaN and Infinity, which float() takes
    try:
        if float(value) in (float("inf"), float("-inf")):
            raise _Wrong
    except ValueError:
        raise _Wrong from None
    return "float", Decimal(value)


def microseconds(time: str, unit: int) -> Decimal | None:
    """A time of nanoseconds times `unit` as microseconds since 1970; None beyond what InfluxDB keeps."""
    number = int(time) * unit
    return Decimal(number) / 1000 if abs(number) < 2**63 - 1 else None
