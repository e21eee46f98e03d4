"""`sampling` of a user's configuration as decoded JSON -> everything that is wrong with it."""

from collections.abc import Callable, Iterator
from typing import Any

from app.core.rules import condition_checks as conditions
from app.core.rules.condition_checks import globs, shown, too_costly
from app.core.rules.window_keys import SECONDS_MAX, looks_like_one

POLICIES_MAX = 100
BANDS_MAX = 50  # each costs 0.3 us a reading
AVERAGES_MAX = 20  # each costs 1 us a reading and up to 500 bytes a device
HEARTBEAT_MAX = 7 * 86400  # seconds
EXAMPLE = (
    '{"cov": [{"keys": {"temperature": {"absolute": 0.5}}, "heartbeat_seconds": 300}], '
    '"averages": [{"key": "temperature", "seconds": 60}]}'
)
_COV = '{"keys": {"temperature": {"absolute": 0.5}, "humidity": {"percent": 2}}, "heartbeat_seconds": 300}'
_AVERAGE = '{"key": "temperature", "seconds": 60}'


def problems_of(sampling: Any) -> Iterator[str]:
    """Yield each problem; nothing for a document that can be compiled."""
    if not isinstance(sampling, dict):
        yield f": {shown(sampling)} is not an object such as {EXAMPLE}"
        return
    problems = [
        *_only(sampling, "cov", "averages"),
        *_each(sampling, "cov", POLICIES_MAX, _COV, _policy),
        *_each(sampling, "averages", AVERAGES_MAX, _AVERAGE, _average),
    ]
    entries = () if problems else (*(sampling.get("cov") or ()), *(sampling.get("averages") or ()))
    yield from problems or too_costly("", (entry.get("devices") for entry in entries))


def _each(
    sampling: dict[str, Any], field: str, most: int, example: str, check: Callable[[dict[str, Any]], Iterator[str]]
) -> Iterator[str]:
    entries = sampling.get(field)
    if entries is None:
        return
    if not isinstance(entries, list) or len(entries) > most:
        yield f".{field}: {shown(entries)} is not a list of at most {most} objects such as {example}"
        return
    for index, entry in enumerate(entries):
        problems = (
            check(entry) if isinstance(entry, dict) else (f": {shown(entry)} is not an object such as {example}",)
        )
        yield from (f".{field}[{index}]{problem}" for problem in problems)


def _policy(policy: dict[str, Any]) -> Iterator[str]:
    yield from _only(policy, "keys", "heartbeat_seconds", "devices")
    yield from _seconds(policy, "heartbeat_seconds", HEARTBEAT_MAX)
    yield from _devices(policy)
    bands = policy.get("keys")
    if not isinstance(bands, dict) or not 1 <= len(bands) <= BANDS_MAX:
        yield f".keys: {shown(bands)} is not an object of 1 to {BANDS_MAX} keys such as {_COV}"
        return
    for key, band in bands.items():
        yield from (f".keys: {problem}" for problem in _field(key))
        if not isinstance(band, dict) or not band or band.keys() - {"absolute", "percent"}:
            yield (
                f'.keys.{key}: {shown(band)} is not a dead-band such as {{"absolute": 0.5}}, {{"percent": 2}} or both'
            )
            continue
        for name, width in band.items():
            if not conditions.is_number(width) or width < 0:
                yield f".keys.{key}.{name}: {shown(width)} is not a number from 0 on"


def _average(average: dict[str, Any]) -> Iterator[str]:
    yield from _only(average, "key", "seconds", "devices")
    yield from _seconds(average, "seconds", SECONDS_MAX)
    yield from _devices(average)
    yield from (f".key: {problem}" for problem in _field(average.get("key")))


def _field(key: Any) -> Iterator[str]:
    if isinstance(key, str) and looks_like_one(key):
        yield f"{shown(key)} is not a measured field; name the field itself"
    else:
        yield from conditions.key({"key": key})


def _seconds(entry: dict[str, Any], field: str, most: int) -> Iterator[str]:
    value = entry.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        yield f".{field}: {shown(value)} is not a whole number of seconds from 1 to {most}"


def _devices(entry: dict[str, Any]) -> Iterator[str]:
    if entry.get("devices") is not None:
        yield from (f".devices: {problem}" for problem in globs(entry["devices"]))


def _only(entry: dict[str, Any], *known: str) -> Iterator[str]:
    for field in entry.keys() - set(known):
        yield f".{shown(field)[1:-1]}: unknown field; known are {', '.join(known)}"
