"""Payload bytes -> its fields as raw JSON, and JSON text -> the Fault that keeps jsonb from holding it exactly.

The careful, slow way (a few microseconds). The fast way in decoder.py comes here with every payload that it is not sure
about, so this module alone decides what is refused, and why. Every step is linear in the size of the payload.
"""

import re

import msgspec
from msgspec import Raw

from app.core.model.fault import Fault, printable
from app.core.model.records import Reason, Stage

# What numeric, and so jsonb, can hold (PostgreSQL manual, "Numeric Types"): zeros at the end count.
DIGITS_BEFORE_POINT = 131_072
DIGITS_AFTER_POINT = 16_383

# Possessive (*+), because a backtracking pattern takes quadratic time on a payload made for it.
_STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_ESCAPES = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")
# Only a number with an exponent, or a very long one, can be too large.
_NUMBERS = re.compile(r"-?+([0-9]++)(?:\.([0-9]++))?+(?:[eE]([-+]?+[0-9]++))?+")
_BYTE = re.compile(r"\(byte ([0-9]+)\)")
_NOT_NUMBERS = re.compile(rb"-?(?:NaN|Infinity|nan|inf)")
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"
_BOM_16 = (b"\xff\xfe", b"\xfe\xff")

_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def read_fields(payload: bytes, max_depth: int) -> dict[str, Raw] | Fault:
    """Read a JSON object; a repeated key's last value counts. Never raises.

    Nesting far beyond any sensible `max_depth` (some 900 levels, Python's stack) is refused here already.
    """
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} (0x{payload[error.start]:02x}) is not UTF-8; send JSON in UTF-8"
        if payload.startswith(_BOM_16):
            detail = f"payload begins with a byte order mark of UTF-16 (0x{payload[:2].hex()}); send JSON in UTF-8"
        return Fault(Reason.BAD_ENCODING, Stage.DECODE, detail)
    try:
        fields = _fields(payload)
    except RecursionError:
        return _too_deep(max_depth)
    except msgspec.ValidationError:
        return Fault(Reason.NOT_AN_OBJECT, Stage.DECODE, f"payload is {printable(text)}; send a JSON object")
    except (msgspec.DecodeError, ValueError) as error:
        return _syntax(payload, text, str(error))
    if "\\u0000" in text and any(escape[1] == "0000" for escape in _ESCAPES.finditer(text)):
        return Fault(Reason.NUL_CHARACTER, Stage.DECODE, "payload contains \\u0000, which no text column can hold")
    return fields


def jsonb_fault(text: str, max_depth: int) -> Fault | None:
    """What is wrong with valid JSON that is to be stored: more than `max_depth` levels, itself the first, or a number.

    `text` is what is stored, not the payload: the earlier value of a repeated key harms nobody.
    """
    outside = _STRINGS.sub("", text)
    depth = 0
    for bracket in _BRACKETS.finditer(outside):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > max_depth:
            return _too_deep(max_depth)
    for number in _NUMBERS.finditer(outside):
        if (number[3] or len(number[0]) > DIGITS_AFTER_POINT) and not _fits(number[1], number[2] or "", number[3]):
            detail = f"{printable(number[0])} is out of range: at most {DIGITS_BEFORE_POINT} digits before the point"
            return Fault(Reason.OUT_OF_RANGE, Stage.DECODE, f"{detail} and {DIGITS_AFTER_POINT} after it")
    return None


def _fits(whole: str, fraction: str, exponent: str | None) -> bool:
    power = (exponent or "0").lstrip("+-").lstrip("0") or "0"
    if len(power) > 6:  # a million digits; int() refuses more than 4300
        return False
    shift = -int(power) if exponent and exponent[0] == "-" else int(power)
    significant = (whole + fraction).lstrip("0")
    before = len(significant) - len(fraction) + shift if significant else 0
    return before <= DIGITS_BEFORE_POINT and len(fraction) - shift <= DIGITS_AFTER_POINT


def _syntax(payload: bytes, text: str, error: str) -> Fault:
    if text.startswith(_BOM):
        detail = "payload begins with a byte order mark (U+FEFF, 0xefbbbf); send JSON in UTF-8 without one"
        return Fault(Reason.BAD_JSON, Stage.DECODE, detail)
    if _has_lone_surrogate(text):
        detail = "a \\uD800 to \\uDFFF escape is not one of a pair; no Unicode text can hold it"
        return Fault(Reason.LONE_SURROGATE, Stage.DECODE, detail)
    place = _BYTE.search(error)
    at = int(place[1]) if place else len(payload)
    # At the I of -Infinity or the a of nan the parser has read one character more.
    if name := _NOT_NUMBERS.match(payload, max(at - 1, 0)) or _NOT_NUMBERS.match(payload, at):
        detail = f"{name[0].decode()} at byte {name.start()} is not JSON; send null or leave the field out"
        return Fault(Reason.BAD_JSON, Stage.DECODE, detail)
    nearby = printable(payload[max(at - 10, 0) : at + 20])
    return Fault(Reason.BAD_JSON, Stage.DECODE, f"{error}, near {nearby}" if nearby else error)


def _has_lone_surrogate(text: str) -> bool:
    high_ends = -1  # where the escape of an unpaired high half ended
    for escape in _ESCAPES.finditer(text):
        code = int(escape[1], 16) if escape[1] else 0
        if high_ends >= 0 and not (0xDC00 <= code <= 0xDFFF and escape.start() == high_ends):
            return True
        if 0xDC00 <= code <= 0xDFFF and high_ends < 0:
            return True
        high_ends = escape.end() if 0xD800 <= code <= 0xDBFF else -1
    return high_ends >= 0


def _too_deep(max_depth: int) -> Fault:
    return Fault(Reason.TOO_DEEP, Stage.DECODE, f"nested more than {max_depth} levels; flatten it")
