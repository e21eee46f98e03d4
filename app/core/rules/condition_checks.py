"""One condition as decoded JSON -> everything that is wrong with its key, operator and thresholds."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from app.core.rules.field_readers import TEXT_MAX
from app.core.rules.globs import WILD, Glob
from app.core.rules.window_keys import EXAMPLE as _WINDOW_EXAMPLE
from app.core.rules.window_keys import FUNCTIONS, SECONDS_MAX, looks_like_one, window_key
from app.core.schema.schema import Schema

OPERATORS = (">", "<", ">=", "<=", "==")
KEY_MAX = 200
DEPTH_MAX = 32  # names in a key; a payload is not nested deeper
PARTS_MAX = 20  # conditions of one rule; each costs 0.3 us a reading

# Fields that name a reading and say when it was taken; they are not among its measured fields.
_NOT_MEASURED = ("time", "timestamp", "sequence_id", "device_id", "user_id", "traceparent", "tracestate")
_UNREADABLE = re.compile(r'["\\\x00-\x1f]')

Check = Callable[[dict[str, Any]], Iterator[str]]


def key(rule: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `key`."""
    name = rule["key"]
    if isinstance(name, str) and looks_like_one(name):
        yield from _window(name)
    elif not isinstance(name, str) or not 1 <= len(name) <= KEY_MAX or _UNREADABLE.search(name):
        yield (f"{shown(name)} is not the name of a field: 1 to {KEY_MAX} characters, no quotes, backslashes or "
               f'control characters, for example "temperature" or "engine.oil.temp"')  # fmt: skip
    elif name in _NOT_MEASURED:
        yield f"{shown(name)} is not a measured field; name one of the payload's other fields"
    elif "" in name.split(".") or name.count(".") >= DEPTH_MAX:
        yield f"{shown(name)} is not 1 to {DEPTH_MAX} names with single dots between them"


def _window(name: str) -> Iterator[str]:
    found = window_key(name)
    if found is None or found.seconds > SECONDS_MAX or looks_like_one(found.key):
        yield (f"{shown(name)} is not {', '.join(FUNCTIONS)} of a field in the last 1 to {SECONDS_MAX} seconds, for "
               f'example "{_WINDOW_EXAMPLE}"')  # fmt: skip
    else:
        yield from key({"key": found.key})


def operator(rule: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `operator`."""
    if rule["operator"] not in OPERATORS:
        yield f"{shown(rule['operator'])} is not one of {' '.join(OPERATORS)}"


def threshold(schema: Schema, rule: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `threshold`; a column of numbers is compared with a number alone."""
    value = rule["threshold"]
    if is_number(value):
        return
    name = rule.get("key")
    column = schema.keys.get(name) if isinstance(name, str) else None
    window = isinstance(name, str) and looks_like_one(name)
    numeric = window or (column is not None and column.type.judged == "number")
    if rule.get("operator") != "==" or numeric:
        why = f"the key {name}" if numeric else "every operator but =="
        yield f"{shown(value)} is not a number, which {why} needs, for example 80.5"
    elif not isinstance(value, bool) and not (isinstance(value, str) and len(value) <= TEXT_MAX):
        yield f"{shown(value)} is not a number within 64 bits, true, false, or a text of at most {TEXT_MAX} characters"


def clear_threshold(rule: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `clear_threshold`."""
    value, sign, bound = rule["clear_threshold"], rule.get("operator"), rule.get("threshold")
    if not is_number(value):
        yield f"{shown(value)} is not a number, for example 75"
    elif sign == "==":
        yield "== has no clear_threshold; leave it out, or use another operator"
    elif is_number(bound) and sign in (">", ">=") and value > bound:
        yield f"{shown(value)} is above the threshold {shown(bound)}; with {sign} it has to be at or below it"
    elif is_number(bound) and sign in ("<", "<=") and value < bound:
        yield f"{shown(value)} is below the threshold {shown(bound)}; with {sign} it has to be at or above it"


def is_number(value: Any) -> bool:
    """Whether `value` is a number that the state can carry; NaN and 1e400 are not JSON and do not come this far."""
    if isinstance(value, float):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


def shown(value: Any) -> str:
    """The value as JSON, shortened, for a sentence about this value."""
    try:
        text = msgspec.json.encode(value).decode()
    except RecursionError:
        return "a deeply nested value"
    return text if len(text) <= 60 else text[:57] + "..."


CONDITION = ("key", "operator", "threshold", "clear_threshold")
REQUIRED = ("key", "operator", "threshold")


def checks_of_condition(schema: Schema) -> dict[str, Check]:
    """The check of each field of CONDITION, for rules about readings of `schema`."""
    return {
        "key": key, "operator": operator, "threshold": partial(threshold, schema), "clear_threshold": clear_threshold,
    }  # fmt: skip


def several(field: str, checks: Mapping[str, Check]) -> Check:
    """The check of `all` or `any`; `checks` are the checks of each condition in the list."""

    def check(rule: dict[str, Any]) -> Iterator[str]:
        parts = rule[field]
        if not isinstance(parts, list) or not 1 <= len(parts) <= PARTS_MAX:
            yield f"{shown(parts)} is not a list of 1 to {PARTS_MAX} conditions; {_EXAMPLE}"
            return
        for index, part in enumerate(parts):
            yield from (f"[{index}]{problem}" for problem in _part(part, checks))

    return check


def _part(part: Any, checks: Mapping[str, Check]) -> Iterator[str]:
    if not isinstance(part, dict):
        yield f": {shown(part)} is not an object; {_EXAMPLE}"
        return
    for field in part.keys() - checks.keys():
        yield f".{shown(field)[1:-1]}: a condition has only {', '.join(CONDITION)}"
    given = {field: value for field, value in part.items() if value is not None}
    for field, problems in checks.items():
        if field in given:
            yield from (f".{field}: {problem}" for problem in problems(given))
        elif field in REQUIRED:
            yield f".{field}: missing; {_EXAMPLE}"


_EXAMPLE = 'for example [{"key": "temperature", "operator": ">", "threshold": 80}]'


DEVICES_MAX = 100
GLOB_MAX = 200
# Limits for all globs in a part of a configuration. Every new device of the user is compared with each glob: at these
# limits they take 2 ms to compile, and 1 ms a device. Ids without wildcards are looked up, and cost nothing.
GLOBS_MAX = 1_000
GLOBS_CHARS_MAX = 20_000
SEARCHED_MAX = 500  # characters; each is compared at each place of an id


def globs(value: Any) -> Iterator[str]:
    """Yield what is wrong with a list of ids and globs."""
    if not isinstance(value, list) or not 1 <= len(value) <= DEVICES_MAX:
        yield f'{shown(value)} is not a list of 1 to {DEVICES_MAX} device ids or globs, for example ["truck-*"]'
        return
    for index, glob in enumerate(value):
        if not isinstance(glob, str) or not 1 <= len(glob) <= GLOB_MAX or "\0" in glob:
            yield f"[{index}]: {shown(glob)} is not a device id or glob of 1 to {GLOB_MAX} characters without NUL"


def too_costly(part: str, lists: Iterable[Iterable[str] | None], *, once: bool = False) -> Iterator[str]:
    """Yield what is wrong with valid lists together; ids do not count, and with `once` equal globs count once."""
    found = [glob for some in lists if some for glob in some if not WILD.isdisjoint(glob) and glob != "*"]
    wild = set(found) if once else found
    size = sum(map(len, wild))
    if len(wild) > GLOBS_MAX:
        yield (f"{part}: {len(wild)} globs in devices; at most {GLOBS_MAX} are allowed, while ids without *, ? "
               f"and [ do not count")  # fmt: skip
    elif size > GLOBS_CHARS_MAX:
        yield f"{part}: the globs in devices have {size} characters; at most {GLOBS_CHARS_MAX} are allowed"
    elif (searched := sum(Glob(glob).searched for glob in wild if "?" in glob or "[" in glob)) > SEARCHED_MAX:
        yield (f"{part}: globs in devices have ? or [ between two stars in parts of {searched} characters; at most "
               f"{SEARCHED_MAX} are allowed")  # fmt: skip
