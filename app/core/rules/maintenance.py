"""Maintenance windows of a user as decoded JSON -> compiled windows, or everything that is wrong with them.

A window is a span of event time on some devices: what their rules find within the span is recorded and not sent.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from app.core.model.times import micros
from app.core.rules.condition_checks import globs, shown, too_costly
from app.core.rules.globs import Globs

WINDOWS_MAX = 100
NOTE_MAX = 1000
EXAMPLE = '{"from": "2026-11-21T22:00:00Z", "until": "2026-11-22T04:00:00Z", "devices": ["truck-*"]}'

Span = tuple[int, int]  # event times, microseconds since 1970: from the first on, up to and without the second


class MaintenanceWindow(Struct, frozen=True, gc=False):
    """One maintenance window of a user."""

    span: Span
    devices: Globs


def problems_of(windows: Any) -> Iterator[str]:
    """Yield each problem; nothing for windows that can be compiled."""
    if not isinstance(windows, list) or len(windows) > WINDOWS_MAX:
        yield f": {shown(windows)} is not a list of at most {WINDOWS_MAX} windows such as {EXAMPLE}"
        return
    problems = [f"[{index}]{problem}" for index, window in enumerate(windows) for problem in _problems(window)]
    yield from problems or too_costly("", (window.get("devices") for window in windows))


def compile_windows(windows: list[dict[str, Any]]) -> tuple[MaintenanceWindow, ...]:
    """Compile windows in which `problems_of` found nothing."""
    return tuple(
        MaintenanceWindow((_micros(one["from"]), _micros(one["until"])), Globs(one.get("devices") or ("*",)))
        for one in windows
    )


def spans_of(windows: tuple[MaintenanceWindow, ...], device_id: str) -> tuple[Span, ...]:
    """The spans of the windows that take in this device."""
    return tuple(one.span for one in windows if one.devices.takes_in(device_id))


def within(windows: tuple[MaintenanceWindow, ...], device_id: str, at: int) -> bool:
    """Whether a device is in one of the windows at the event time `at`, microseconds since 1970."""
    return any(one.span[0] <= at < one.span[1] and one.devices.takes_in(device_id) for one in windows)


def _problems(window: Any) -> Iterator[str]:
    if not isinstance(window, dict):
        yield f": {shown(window)} is not an object such as {EXAMPLE}"
        return
    for field in window.keys() - {"from", "until", "devices", "note"}:
        yield f".{shown(field)[1:-1]}: unknown field; known are from, until, devices, note"
    times = {field: _time(window.get(field)) for field in ("from", "until")}
    for field, time in times.items():
        if time is None:
            yield f".{field}: {shown(window.get(field))} is not a time with its zone such as 2026-11-21T22:00:00Z"
    begin, end = times["from"], times["until"]
    if begin and end and begin >= end:
        yield f".until: {shown(window['until'])} is not after from"
    if window.get("devices") is not None:
        yield from (f".devices: {problem}" for problem in globs(window["devices"]))
    note = window.get("note")
    if note is not None and (not isinstance(note, str) or len(note) > NOTE_MAX or "\0" in note):
        yield f".note: {shown(note)} is not a text of at most {NOTE_MAX} characters without NUL"


def _time(text: Any) -> datetime | None:
    try:
        found = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return None
    return found if found.tzinfo else None


def _micros(text: str) -> int:
    return micros(msgspec.convert(text, datetime))
