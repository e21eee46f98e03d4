"""What `iot-stream rules test --expect` shows a person: a diff of alert events, and the coverage of the rules."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET
from rich.console import Console
from rich.text import Text

from app.backtest.coverage import Coverage
from app.backtest.difference import DiffLine
from app.backtest.expected import ExpectedEvent
from app.cli.render.table import print_table
from app.core.model.alert_event import AlertEvent
from app.core.model.fault import printable

CONTEXT = 2  # lines of what is as expected, before and after what is not
_STYLES = {"-": "red", "+": "green", " ": "dim"}
_FIRST = ("event_time", "device_id", "rule_id", "status")  # in the line as they are; all else with its name
_SHOWN = ("cause", "repeat", "severity", "value")  # of events, whether the file names them or not


def print_difference(lines: Sequence[DiffLine]) -> None:
    """Print what is missing (-) and what was not expected (+), with CONTEXT, and `...` for what is left out."""
    console, names = Console(), _named(lines)
    near = {at + step for at, (sign, *_) in enumerate(lines) if sign != " " for step in range(-CONTEXT, CONTEXT + 1)}
    left_out = False
    for at, line in enumerate(lines):
        if at in near:
            console.print(Text(as_line(line, names), _STYLES[line[0]]), soft_wrap=True)
        elif not left_out:
            console.print("...", style="dim")
        left_out = at not in near


def as_line(line: DiffLine, names: Sequence[str] = ()) -> str:
    """A line of the diff as text; of an event that was not expected also the fields `names`."""
    sign, one, event = line
    if sign == "-" and one is not None:
        return " ".join([sign, *_words(one.fields)]) + f" (line {one.line})"
    assert event is not None
    shown = {name: getattr(event, name) for name in (*_FIRST, *_SHOWN, *names)}
    return " ".join([sign, *_words({name: value for name, value in shown.items() if value is not UNSET})])


def print_coverage(coverage: Coverage) -> None:
    """Print how far each rule was tried, and why a rule has not fired."""
    rows = [
        (one.rule_id, f"{one.readings:,}", f"{one.held:,}", f"{one.fired:,}", f"{one.resolved:,}", one.missing)
        for one in coverage.rules
    ]
    print_table(("rule", "readings", "held", "fired", "resolved", "not tried"), rows)
    print(f"{coverage.fired} of {len(coverage.rules)} rules have fired")


def _named(lines: Sequence[DiffLine]) -> tuple[str, ...]:
    """The fields that the missing events name, and that not every line has."""
    found = {name for _, one, _ in lines if isinstance(one, ExpectedEvent) for name in one.fields}
    return tuple(name for name in AlertEvent.__struct_fields__ if name in found and name not in (*_FIRST, *_SHOWN))


def _words(fields: dict[str, Any]) -> Iterator[str]:
    for name in _FIRST:
        yield _plain(fields[name]) if fields.get(name) is not None else "*"
    for name, value in fields.items():
        if name not in _FIRST:
            yield f"{name}={msgspec.json.encode(value).decode()}"


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return printable(str(value), 200)
