"""Bytes of strangers -> text that a terminal only shows: no control character of a payload or an id comes through."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from app.core.model.arrival import moment_of
from app.core.model.fault import printable

LINE = 16  # bytes of a line of a hex dump
DUMPED = 256  # bytes of a payload that are shown so
SHOWN = 4_000  # characters of a text that are shown; JSON for machines has the whole text

_odd = re.compile(r"[^\x20-\x7e]")


def shown(value: object) -> str:
    """A text or bytes on one line, without control characters, cut after SHOWN characters."""
    return printable(value, SHOWN)


def json_line(value: Any) -> str:
    """The JSON of `value` on one line. Unprintable characters are escaped too: in valid JSON they can only be inside
    of a string. Raises TypeError for what msgspec cannot encode.
    """
    return _odd.sub(_escaped, msgspec.json.encode(value).decode())


def raw_json(payload: bytes) -> msgspec.Raw | None:
    """JSON in UTF-8 as it is, without blanks and line breaks between its values; None for anything else."""
    try:
        payload.decode()
        msgspec.json.decode(payload, type=msgspec.Raw)
        return msgspec.Raw(msgspec.json.format(payload, indent=-1))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def is_text(payload: bytes) -> bool:
    """Whether a payload is best shown as text: UTF-8 without control characters other than white space."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\t\r\n" for char in text[:SHOWN])


def hex_dump(data: bytes) -> Iterator[str]:
    """Lines of offset, bytes in hex and as ASCII, as `hexdump -C` has them; DUMPED bytes at most."""
    for at in range(0, min(len(data), DUMPED), LINE):
        piece = data[at : min(at + LINE, DUMPED)]
        characters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in piece)
        yield f"{at:08x}  {piece.hex(' '):<{3 * LINE}} |{characters}|"
    if len(data) > DUMPED:
        yield f"... ({len(data)} bytes)"


def time_of(ms: int) -> str | None:
    """Milliseconds since 1970 as RFC 3339; None for what no calendar has."""
    try:
        return moment_of(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        return None


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    if char.isprintable():
        return char
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
