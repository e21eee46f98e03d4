"""A file of the alert events that rules have to cause -> what it says of each; and whether an event is one of them.

The file is a JSON array of events, or an object with the array as `events`, as `iot-stream rules test --json` prints
it. An entry names as many of an event's fields as it cares for.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from app.backtest.locate import line_of, line_of_syntax, lines_of
from app.core.model.alert_event import AlertEvent, Cause, Severity, Status
from app.errors import PermanentError

FIELDS = AlertEvent.__struct_fields__
REQUIRED = ("rule_id", "status")
_TIMES = ("event_time", "first_seen")
_WORDS: dict[str, tuple[str, ...]] = {"status": tuple(Status), "severity": tuple(Severity), "cause": tuple(Cause)}
_EXAMPLE = '{"event_time": "2026-11-21T09:01:00Z", "device_id": "truck-1", "rule_id": "door", "status": "FIRING"}'


class ExpectedEvent(Struct, frozen=True):
    """One entry of the file; times are datetimes, and a field that must be absent is None."""

    line: int
    fields: dict[str, Any]

    def is_met_by(self, event: AlertEvent) -> bool:
        """Whether the event has every field as the entry says."""
        return all(_equal(wanted, getattr(event, name)) for name, wanted in self.fields.items())


def expected(name: str, text: bytes, rule_ids: Sequence[str]) -> tuple[ExpectedEvent, ...]:
    """The entries of a file called `name`, by their time where all name theirs, else in the order of the file;
    `rule_ids` are those of the rules that are tried.

    Raises PermanentError that names the file and every mistake, each with its line.
    """
    try:
        document = msgspec.json.decode(text)
        lines = lines_of(text.decode())
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise PermanentError(f"{name}:{line_of_syntax(str(error), text)}: not JSON: {error}") from error
    listed = isinstance(document, list)
    events, path = (document, "rules") if listed else (_events(document), "events")
    if not isinstance(events, list):
        raise PermanentError(f'{name}:1: give a JSON array of events, [] for none, or an object {{"events": [...]}}')
    problems = [
        f"{name}:{line_of(f'{path}[{index}]{problem}', lines)}: [{index}]{problem}"
        for index, entry in enumerate(events)
        for problem in _problems(entry, rule_ids)
    ]
    if problems:
        raise PermanentError("\n".join(["the expected events are no events:", *problems]))
    found = [ExpectedEvent(line_of(f"{path}[{n}]", lines), _read(entry)) for n, entry in enumerate(events)]
    if all(one.fields.get("event_time") for one in found):
        found.sort(key=lambda one: one.fields["event_time"])
    return tuple(found)


def _events(document: Any) -> Any:
    return document.get("events") if isinstance(document, dict) else None


def _problems(entry: Any, rule_ids: Sequence[str]) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f": not an object; an event is for example {_EXAMPLE}"
        return
    for field in entry:
        if field not in FIELDS:
            yield f".{field}: unknown field; {_hint(field, FIELDS)}"
    for field in REQUIRED:
        if entry.get(field) is None:
            yield f".{field}: missing; an event is for example {_EXAMPLE}"
    for field, words in _WORDS.items():
        if entry.get(field) is not None and entry[field] not in words:
            yield f".{field}: {msgspec.json.encode(entry[field]).decode()} is not one of {', '.join(words)}"
    for field in _TIMES:
        if entry.get(field) is not None and _time(entry[field]) is None:
            yield f".{field}: {msgspec.json.encode(entry[field]).decode()} is no time such as 2026-11-21T09:01:00Z"
    if (rule := entry.get("rule_id")) is not None and rule not in rule_ids:
        yield f".rule_id: {msgspec.json.encode(rule).decode()} is none of the rules; {_hint(rule, rule_ids)}"


def _hint(name: Any, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1) if isinstance(name, str) else []
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known) or 'none'}"


def _time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


def _read(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: _time(value) if name in _TIMES and value is not None else value for name, value in entry.items()}


def _equal(wanted: Any, found: Any) -> bool:
    if found is UNSET:
        return wanted is None
    if isinstance(wanted, bool) or isinstance(found, bool):  # for Python, true is 1
        return wanted is found
    return bool(wanted == found)
