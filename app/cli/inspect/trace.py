"""`iot-stream trace`: where one message is now."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from app.cli.options import escape_unencodable, moves_cursor, past, quiet, say
from app.cli.render.tap import paint
from app.cli.render.trace import lines, span_lines
from app.errors import TransientError
from app.inspect.answer import as_json
from app.inspect.search import Progress, Search, SoughtMessage, trace_id
from app.inspect.sighting import MessageState
from app.inspect.spans import FoundSpan
from app.inspect.tempo import spans_of_message
from app.inspect.text import json_line
from app.inspect.where_is import MessageTrace, Window, where_is
from app.settings import Settings, load

FOUND = (MessageState.STORED, MessageState.DEAD_LETTERED, MessageState.WAITING, MessageState.DROPPED)

User = Annotated[str | None, typer.Option("--user", help="The message's user: the user of users/*, the node of iot/*.")]
Device = Annotated[str | None, typer.Option("--device", help="The device, or the sensor of iot/*.")]
Number = Annotated[int | None, typer.Option("--sequence", help="Its sequence_id.")]
TraceId = Annotated[
    str | None, typer.Option("--trace-id", help="Its trace id, 32 hex digits, or its whole traceparent.")
]
Since = Annotated[str, typer.Option("--since", help="How far back records are read: 90s, 15m, 12h, 7d.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds that the search may take.")]
AllPartitions = Annotated[
    bool, typer.Option("--all-partitions", help="Not only the partitions of its keys: its producer may use others.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For a machine.")]


def trace(
    user: User = None,
    device: Device = None,
    sequence: Number = None,
    traced: TraceId = None,
    since: Since = "1h",
    timeout: Timeout = 60.0,
    all_partitions: AllPartitions = False,
    as_json: AsJson = False,
) -> None:
    """Say where a message is now: stored, dead-lettered, waiting in Kafka, left out on purpose, or not seen.

    Its spans too where IOT_TEMPO_URL is set. The command joins no group and changes nothing.

    Exit code 0: found and accounted for, 1: not seen, or neither a row nor a dead letter.

    Example: iot-stream trace --user alice --device truck-1 --sequence 123 --since 6h
    """
    sought = _sought(user, device, sequence, traced)
    window = Window(int((time.time() - past(since, "--since").total_seconds()) * 1000), all_partitions)
    quiet()
    settings = load()
    with _progress() as progress:
        search = Search(time.monotonic() + timeout, progress)
        found = asyncio.run(where_is(settings, sought, window, search))
    spans = _spans(settings, found)
    _show(found, window, search, spans, as_json)
    raise typer.Exit(0 if found.state in FOUND else 1)


def _sought(user: str | None, device: str | None, sequence: int | None, traced: str | None) -> SoughtMessage:
    known = None if traced is None else trace_id(traced)
    if traced is not None and known is None:
        raise typer.BadParameter("give 32 hex digits, or a whole traceparent", param_hint="--trace-id")
    if known is None and None in (user, device, sequence):
        raise typer.BadParameter("give --user, --device and --sequence, or --trace-id", param_hint="--sequence")
    try:
        f"{user}{device}".encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("an id is UTF-8", param_hint="--user") from None
    return SoughtMessage(user, device, sequence, known)


def _spans(settings: Settings, found: MessageTrace) -> list[FoundSpan] | None:
    """The spans; None where no Tempo is set, or Tempo does not answer, as a note then says."""
    if settings.tempo_url is None or (found.sought.trace_id is None and found.sought.sequence_id is None):
        return None
    at_ms = found.sightings[0].found.record.timestamp if found.sightings else time.time_ns() // 1_000_000
    try:
        return asyncio.run(spans_of_message(settings.tempo_url.get_secret_value(), found.sought, at_ms))
    except TransientError as error:
        found.notes = [*found.notes, str(error)]
        return None


def _show(
    found: MessageTrace, window: Window, search: Search, spans: list[FoundSpan] | None, for_machine: bool
) -> None:
    now_ms = time.time_ns() // 1_000_000
    if not search.complete:
        what = f"only {search.read:,} of {search.total:,} records were read in this time: give a longer --timeout"
        found.notes = [*found.notes, f"{what}, or a shorter --since"]
    if for_machine:
        print(json_line(as_json(found, window, search, spans, now_ms)))
        return
    colours = paint()
    escape_unencodable()
    for line in lines(found, now_ms, colours):
        print(line)
    if spans is not None:
        print(*(span_lines(spans, colours) if spans else ["spans       none in Tempo"]), sep="\n")
    if found.state is MessageState.NOT_SEEN and search.complete:
        say(f"{search.read:,} records were read; see --since and --all-partitions")
    for note in found.notes:
        say(f"iot-stream: {note}")


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on standard error, if that is a terminal."""
    if not moves_cursor():
        yield lambda read, total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading Kafka")
        yield lambda read, total: bar.update(task, completed=read, total=total)
