"""Options with which dead letters are chosen: in, words of the command line; out, a Selection and its times."""

from collections.abc import Sequence
from typing import Annotated

import typer

from app.cli.options import moment
from app.core.model.records import Reason, Stage
from app.deadletters.letter import OTHER
from app.deadletters.selection import Selection
from app.kafka.reading.offset_ranges import PartError, offset_range

Reasons = Annotated[
    list[str] | None, typer.Option("--reason", help="Refused for this reason; `other`: none is named. Repeatable.")
]
Stages = Annotated[list[str] | None, typer.Option("--stage", help=f"Refused at {', '.join(Stage)}. Repeatable.")]
Topics = Annotated[
    list[str] | None, typer.Option("--topic", help="Of this MQTT topic; a glob such as 'users/alice/*'. Repeatable.")
]
User = Annotated[str | None, typer.Option("--user", help="Of this user (or node).")]
Devices = Annotated[
    list[str] | None, typer.Option("--device", help="Of this device; a glob such as 'truck-*'. Repeatable.")
]
Partitions = Annotated[list[int] | None, typer.Option("--partition", min=0, help="In this partition. Repeatable.")]
Offsets = Annotated[
    list[str] | None,
    typer.Option("--offset", help="At these places: 3:100-200, 3:100, 3:100-, or 100-200 everywhere. Repeatable."),
]
Since = Annotated[
    str | None, typer.Option("--since", help="Written since: 90s, 15m, 12h, 7d ago, or 2026-11-21T09:00:00Z.")
]
Until = Annotated[str | None, typer.Option("--until", help="Written until: as --since.")]
Quarantine = Annotated[
    bool, typer.Option("--quarantine", help="Those of the quarantine topic, not of the dead-letter topic.")
]
Patience = Annotated[float, typer.Option("--timeout", min=1, help="Seconds that an outage of the broker may take.")]
AsJson = Annotated[bool, typer.Option("--json", help="For a machine.")]

Times = tuple[int | None, int | None]


def selection(
    reasons: Sequence[str] | None, stages: Sequence[str] | None, topics: Sequence[str] | None, user: str | None,
    devices: Sequence[str] | None, partitions: Sequence[int] | None, offsets: Sequence[str] | None,
    since: str | None, until: str | None,
) -> tuple[Selection, Times]:  # fmt: skip
    """What the options ask for, and its times in milliseconds since 1970. Raises BadParameter that names the option."""
    _known("--reason", reasons, (*Reason, OTHER))
    _known("--stage", stages, tuple(Stage))
    try:
        ranges = tuple(offset_range(text) for text in offsets or ())
    except PartError as error:
        raise typer.BadParameter(str(error), param_hint="--offset") from None
    times = (moment(since, "--since"), moment(until, "--until"))
    if None not in times and times[0] > times[1]:  # type: ignore[operator]  # neither is None
        raise typer.BadParameter("it is later than --until", param_hint="--since")
    asked = Selection(
        tuple(reasons or ()), tuple(stages or ()), tuple(topics or ()), user, tuple(devices or ()),
        tuple(partitions or ()), ranges, since, until,
    )  # fmt: skip
    try:
        asked.digest()
    except UnicodeEncodeError:
        raise typer.BadParameter("ids and topics are UTF-8", param_hint="--user") from None
    return asked, times


def _known(option: str, values: Sequence[str] | None, choices: Sequence[str]) -> None:
    for value in values or ():
        if value not in choices:
            raise typer.BadParameter(f"there is no {value!r}; choose from {', '.join(choices)}", param_hint=option)
