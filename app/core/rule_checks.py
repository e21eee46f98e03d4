"""One rule as decoded JSON -> everything that is wrong with it, in words for the person who wrote it."""

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

import msgspec

from app.core.alerts import Severity
from app.core.readers import COLUMNS, TEXT_MAX

OPERATORS = (">", "<", ">=", "<=", "==")
ID_MAX = 200  # characters; part of the primary key of active_alerts, whose index takes 2704 bytes
KEY_MAX = 200
DEPTH_MAX = 32  # names in a key; a payload is not nested deeper
MESSAGE_MAX = 1000
DEVICES_MAX = 100
GLOB_MAX = 200

# Their meaning is reserved, and a rule that relied on one would alert at the wrong times without it.
NOT_SUPPORTED_YET = ("for_seconds", "clear_for_seconds", "consecutive", "no_data_seconds", "all", "any")
# What a reading is called and when it was taken; not among its measured fields.
_NOT_MEASURED = ("time", "timestamp", "sequence_id", "device_id", "user_id", "traceparent", "tracestate")
_UNREADABLE = re.compile(r'["\\\x00-\x1f]')


def problems_of(rule: Any) -> Iterator[str]:
    """Yield each problem as `.field: value is not what would be right`; nothing for a rule that can be compiled.

    Optional fields that are null count as absent.
    """
    if not isinstance(rule, dict):
        yield f": {_shown(rule)} is not an object; {_EXAMPLE}"
        return
    for field in rule:
        yield from _unknown(field)
    given = {field: value for field, value in rule.items() if value is not None}
    for field in NOT_SUPPORTED_YET:
        if field in given:
            yield f".{field}: not supported yet: {field}; leave it out"
    for field, problems in _CHECKS.items():
        if field in given:
            yield from (f".{field}: {problem}" for problem in problems(given))
        elif field in _REQUIRED and not given.keys() & {"all", "any"}:
            yield f".{field}: missing; {_EXAMPLE}"


def _unknown(field: str) -> Iterator[str]:
    known = (*_CHECKS, *NOT_SUPPORTED_YET)
    if field not in known:
        close = get_close_matches(field, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(_CHECKS)}"
        yield f".{_shown(field)[1:-1]}: unknown field; {hint}"


def _key(rule: dict[str, Any]) -> Iterator[str]:
    key = rule["key"]
    if not isinstance(key, str) or not 1 <= len(key) <= KEY_MAX or _UNREADABLE.search(key):
        yield (f"{_shown(key)} is not the name of a field: 1 to {KEY_MAX} characters, no quotes, backslashes or "
               f'control characters, for example "temperature" or "engine.oil.temp"')  # fmt: skip
    elif key in _NOT_MEASURED:
        yield f"{_shown(key)} is not a measured field; name one of the payload's other fields"
    elif "" in key.split(".") or key.count(".") >= DEPTH_MAX:
        yield f"{_shown(key)} is not 1 to {DEPTH_MAX} names with single dots between them"


def _operator(rule: dict[str, Any]) -> Iterator[str]:
    if rule["operator"] not in OPERATORS:
        yield f"{_shown(rule['operator'])} is not one of {' '.join(OPERATORS)}"


def _threshold(rule: dict[str, Any]) -> Iterator[str]:
    value = rule["threshold"]
    if _is_number(value):
        return
    if rule.get("operator") != "==" or rule.get("key") in COLUMNS:
        why = f"the key {rule['key']}" if rule.get("key") in COLUMNS else "every operator but =="
        yield f"{_shown(value)} is not a number, which {why} needs, for example 80.5"
    elif not isinstance(value, bool) and not (isinstance(value, str) and len(value) <= TEXT_MAX):
        yield f"{_shown(value)} is not a number within 64 bits, true, false, or a text of at most {TEXT_MAX} characters"


def _clear_threshold(rule: dict[str, Any]) -> Iterator[str]:
    value, sign, threshold = rule["clear_threshold"], rule.get("operator"), rule.get("threshold")
    if not _is_number(value):
        yield f"{_shown(value)} is not a number, for example 75"
    elif sign == "==":
        yield "== has no clear_threshold; leave it out, or use another operator"
    elif _is_number(threshold) and sign in (">", ">=") and value > threshold:
        yield f"{_shown(value)} is above the threshold {_shown(threshold)}; with {sign} it has to be at or below it"
    elif _is_number(threshold) and sign in ("<", "<=") and value < threshold:
        yield f"{_shown(value)} is below the threshold {_shown(threshold)}; with {sign} it has to be at or above it"


def _message(rule: dict[str, Any]) -> Iterator[str]:
    value = rule["message"]
    if not isinstance(value, str) or len(value) > MESSAGE_MAX or "\0" in value:
        yield f"{_shown(value)} is not a text of at most {MESSAGE_MAX} characters without NUL"


def _id(rule: dict[str, Any]) -> Iterator[str]:
    value = rule["id"]
    if not isinstance(value, str) or not 1 <= len(value) <= ID_MAX or not value.isprintable():
        yield f"{_shown(value)} is not a text of 1 to {ID_MAX} printable characters"


def _severity(rule: dict[str, Any]) -> Iterator[str]:
    if rule["severity"] not in list(Severity):
        yield f"{_shown(rule['severity'])} is not one of {', '.join(Severity)}"


def _devices(rule: dict[str, Any]) -> Iterator[str]:
    globs = rule["devices"]
    if not isinstance(globs, list) or not 1 <= len(globs) <= DEVICES_MAX:
        yield f'{_shown(globs)} is not a list of 1 to {DEVICES_MAX} device ids or globs, for example ["truck-*"]'
        return
    for index, glob in enumerate(globs):
        if not isinstance(glob, str) or not 1 <= len(glob) <= GLOB_MAX:
            yield f"[{index}]: {_shown(glob)} is not a device id or glob of 1 to {GLOB_MAX} characters"


def _is_number(value: Any) -> bool:
    """A number the state can carry; NaN and 1e400 are not JSON and do not come this far."""
    if isinstance(value, float):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


def _shown(value: Any) -> str:
    try:
        text = msgspec.json.encode(value).decode()
    except RecursionError:
        return "a deeply nested value"
    return text if len(text) <= 60 else text[:57] + "..."


_CHECKS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "key": _key, "operator": _operator, "threshold": _threshold, "message": _message, "id": _id,
    "severity": _severity, "clear_threshold": _clear_threshold, "devices": _devices,
}  # fmt: skip
_REQUIRED = ("key", "operator", "threshold", "message")
_EXAMPLE = 'a rule is for example {"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}'
