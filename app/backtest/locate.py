"""JSON text and a mistake that core found in it -> the line to look at."""

import json
import re
from contextlib import suppress

_read = json.JSONDecoder().raw_decode
_space = re.compile(r"[ \t\r\n]*").match
_byte = re.compile(r"\(byte ([0-9]+)\)").search
_LEVELS = 4  # rules, [0], all, [1], threshold: mistakes name nothing deeper

Lines = dict[str, int]


def lines_of(text: str) -> Lines:
    """Line (from 1 on) of each value of valid JSON by its path, such as `rules[0].all[1].threshold`. Never raises: what
    cannot be read is absent.

    `rules` is the array, whether it is the document or the field `rules` of one.
    """
    lines: Lines = {"rules": 1}
    begin = _skip(text, 0)
    with suppress(ValueError, RecursionError):  # too deep, or what only this reader refuses: what was found will do
        _walk(text, begin, "rules" if text[begin : begin + 1] == "[" else "", lines, _LEVELS)
    return lines


def line_of(reason: str, lines: Lines) -> int:
    """The line that a reason of app.core.rules.parse.parse speaks of, or the nearest value around it."""
    path = reason.replace(": [", "[").replace(": ", ".")  # `rules[0].all: [1].key: missing` -> `rules[0].all[1].key`
    known = [one for one in lines if path.startswith(one) and path[len(one) : len(one) + 1] in ("", ".", "[")]
    return lines[max(known, key=len, default="rules")]


def line_of_syntax(reason: str, text: bytes) -> int:
    """The line of what is no JSON, by the byte that the decoder's `reason` names; the last line when the text ends too
    early.
    """
    found = _byte(reason)
    return text.count(b"\n", 0, int(found[1]) if found else len(text.rstrip())) + 1


def _walk(text: str, at: int, path: str, lines: Lines, levels: int) -> int:
    """Note the value that begins at `at` and those in it; where it ends."""
    if path:
        lines[path] = text.count("\n", 0, at) + 1
    opening = text[at : at + 1]
    if not levels or opening not in ("[", "{"):
        return int(_read(text, at)[1])
    closing = "]" if opening == "[" else "}"
    at, index = _skip(text, at + 1), 0
    while text[at] != closing:
        name = f"[{index}]"
        if opening == "{":
            key, at = _read(text, at)
            name, at = f".{key}" if path else key, _skip(text, _skip(text, at) + 1)  # + 1: the colon
        at = _skip(text, _walk(text, at, path + name, lines, levels - 1))
        if text[at] == ",":
            at = _skip(text, at + 1)
        index += 1
    return at + 1


def _skip(text: str, at: int) -> int:
    """Past white space."""
    found = _space(text, at)
    assert found
    return found.end()
