"""Options with which a part of the input topic, and a table, are chosen: in, words of the command line; out, a
PartOfTopic, a TelemetryTable.
"""

from collections.abc import Sequence
from typing import Annotated

import typer

from app.cli.options import moment
from app.errors import PermanentError
from app.kafka.reading.offset_ranges import PartError, PartOfTopic, offset_range
from app.postgres.queries.telemetry_rows import TelemetryTable, table_of

Partitions = Annotated[list[int] | None, typer.Option("--partition", min=0, help="Of this partition. Repeatable.")]
Offsets = Annotated[
    list[str] | None,
    typer.Option("--offset", help="Of these offsets: 3:100-200, 3:100, 3:100-, or 100-200 everywhere. Repeatable."),
]
Since = Annotated[
    str | None, typer.Option("--since", help="Written since: 90s, 15m, 12h, 7d ago, or 2026-11-21T09:00:00Z.")
]
Until = Annotated[str | None, typer.Option("--until", help="Written until: as --since.")]
AsJson = Annotated[bool, typer.Option("--json", help="For a machine.")]


def part_of_topic(
    partitions: Sequence[int] | None, offsets: Sequence[str] | None, since: str | None, until: str | None
) -> PartOfTopic:
    """What the options ask for. Raises BadParameter that names the option."""
    try:
        ranges = tuple(offset_range(text) for text in offsets or ())
    except PartError as error:
        raise typer.BadParameter(str(error), param_hint="--offset") from None
    since_ms, until_ms = moment(since, "--since"), moment(until, "--until")
    if since_ms is not None and until_ms is not None and since_ms > until_ms:
        raise typer.BadParameter("it is later than --until", param_hint="--since")
    return PartOfTopic(tuple(partitions or ()), ranges, since_ms, until_ms)


def words(
    partitions: Sequence[int] | None, offsets: Sequence[str] | None, since: str | None, until: str | None
) -> dict[str, object]:
    """What was given, for an audit line and for the name of a command that goes on."""
    given = {"partitions": sorted(partitions or ()), "offsets": sorted(offsets or ()), "since": since, "until": until}
    return {name: value for name, value in given.items() if value}


def table(name: str, option: str) -> TelemetryTable:
    """The table that an option names. Raises BadParameter for what is no name of a table."""
    try:
        return table_of(name)
    except PermanentError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
