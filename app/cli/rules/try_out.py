"""`iot-stream rules test`: a rule set tried on a file of readings, and on what it is expected to do with them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from msgspec import Struct

from app.backtest import readings_file, rules_file
from app.backtest.alert_spans import Span, Spans
from app.backtest.coverage import Coverage
from app.backtest.difference import DiffLine, difference
from app.backtest.dry_run import DryRun
from app.backtest.expected import ExpectedEvent, expected
from app.backtest.junit import junit
from app.backtest.readings_file import Refused
from app.core.model.alert_event import AlertEvent, to_json
from app.core.model.namespaces import FLEET
from app.core.rules.rule import RuleSet, with_defaults
from app.core.schema.schema import Schema
from app.errors import PermanentError
from app.settings import load

Expect = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="JSON array of the alert events that have to come of it."),
]
Defaults = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Rules of all users (*), which those of the file override."),
]
Report = Annotated[
    Path | None, typer.Option("--junit", dir_okay=False, help="Write JUnit XML there, a case for each rule.")
]


class Tried(Struct):
    """What came of the readings. `events` are in the order in which they are sent; `differences`, by time, is None
    without an expectation.
    """

    rules: RuleSet
    dry_run: DryRun
    coverage: Coverage
    events: list[AlertEvent]
    alerts: list[Span]
    refused: list[str]
    refused_lines: list[Refused]
    differences: list[DiffLine] | None = None

    @property
    def as_expected(self) -> bool:
        """Whether nothing is missing and nothing too much."""
        return all(sign == " " for sign, *_ in self.differences or ())


def try_out(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON array of rules.")],
    readings: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="JSON lines as devices send them, or CSV with a header.")
    ],
    expect: Expect = None,
    defaults: Defaults = None,
    report: Report = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine.")] = False,
) -> None:
    """Try a rule set on a file of readings, and show when it alerts. Needs no server.

    The readings come in as they are in the file, one after another: a late reading moves nothing, as in a worker.

    With --expect: what differs from the expected events, and how far each rule was tried. Exit code 0: nothing differs,
    1: something does.

    Example: iot-stream rules test rules.json --readings readings.csv --expect expected.json
    """
    if report is not None and expect is None:
        raise typer.BadParameter("what would be wrong? name the expected events with --expect", param_hint="--junit")
    schema = load().telemetry_schema
    found = _rules(file, defaults, schema)
    wanted = None if expect is None else _expected(expect, found)
    done = _try(found, schema, readings)
    if wanted is not None:
        done.differences = difference(wanted, sorted(done.events, key=lambda event: event.event_time))
    if report is not None:
        _write(report, str(file), done)
    if as_json:
        print(_as_json(done).decode())
    else:
        _print(done)
    if not done.as_expected:
        raise typer.Exit(1)


def _rules(file: Path, defaults: Path | None, schema: Schema) -> RuleSet:
    """The rules of `file`, and behind them those of `defaults`, as a worker has them of a user and of all users."""
    own = rules_file.valid(str(file), rules_file.text_of(file), readings_file.NOBODY, schema)
    if defaults is None:
        return own
    fleet = rules_file.valid(str(defaults), rules_file.text_of(defaults), FLEET, schema)
    return with_defaults(own, fleet) or own


def _expected(path: Path, rules: RuleSet) -> tuple[ExpectedEvent, ...]:
    try:
        return expected(str(path), rules_file.text_of(path), [rule.id for rule in rules.rules])
    except PermanentError as error:
        raise typer.BadParameter(str(error), param_hint="--expect") from None


def _try(rules: RuleSet, schema: Schema, readings: Path) -> Tried:
    coverage, spans, over = Coverage(rules), Spans(), list[Span]()
    done = Tried(rules, DryRun(rules, schema, coverage), coverage, [], [], [], [])
    for reading in readings_file.read(readings, schema):
        if isinstance(reading, Refused):
            done.refused_lines.append(reading)
            line = f"{readings}:{reading.line}: would be a dead letter: {reading.reason}: {reading.detail}"
            done.refused.append(line)
            continue
        for event in done.dry_run.take(reading):
            done.events.append(event)
            if (ended := spans.add(event)) is not None:
                over.append(ended)
    done.alerts = sorted([*over, *spans.open.values()], key=lambda span: span.fired_at)
    return done


def _as_json(done: Tried) -> bytes:
    dry_run = done.dry_run
    document: dict[str, object] = {"readings": dry_run.readings, "devices": dry_run.devices, "late": dry_run.late}
    document |= {"refused": done.refused_lines, "events": [msgspec.Raw(to_json(event)) for event in done.events]}
    document |= {"alerts": done.alerts, "coverage": done.coverage.rules}
    if done.differences is not None:
        document["as_expected"] = done.as_expected
        document["missing"] = [one for sign, one, _ in done.differences if sign == "-"]
        document["unexpected"] = [event for sign, _, event in done.differences if sign == "+"]
    return msgspec.json.encode(document)


def _print(done: Tried) -> None:
    from app.cli.render.rules import print_timeline
    from app.cli.render.rules_test import print_coverage, print_difference

    for line in done.refused:
        print(line, file=sys.stderr)
    if done.differences is not None and not done.as_expected:
        print_difference(done.differences)
    elif done.events and done.differences is None:
        print_timeline(done.events, done.alerts)
    dry_run, still = done.dry_run, sum(span.resolved_at is None for span in done.alerts)
    print(f"{dry_run.readings} readings of {dry_run.devices} devices, {dry_run.late} of them late: {len(done.alerts)} "
          f"alerts, {still} still open")  # fmt: skip
    if done.differences is not None:
        print_coverage(done.coverage)
        _print_verdict(done.differences)


def _print_verdict(found: Sequence[DiffLine]) -> None:
    missing, unexpected = (sum(one == sign for one, *_ in found) for sign in "-+")
    if missing or unexpected:
        print(f"not as expected: {missing} events are missing, {unexpected} were not expected")
    else:
        print(f"as expected: {len(found)} events")


def _write(report: Path, suite: str, done: Tried) -> None:
    from app.cli.render.rules_test import as_line

    wrong: dict[str, list[str]] = {}
    for line in done.differences or ():
        sign, one, event = line
        if sign != " ":
            rule_id = event.rule_id if event is not None else one.fields["rule_id"] if one is not None else ""
            wrong.setdefault(rule_id, []).append(as_line(line))
    try:
        report.write_bytes(junit(suite, [rule.id for rule in done.rules.rules], wrong, done.refused))
    except OSError as error:
        raise PermanentError(f"cannot write {report}: {error.strerror}; name a file in a directory of yours") from error
