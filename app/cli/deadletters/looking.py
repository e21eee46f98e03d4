"""`iot-stream dlq ls` and `dlq show`: which dead letters there are, and what is in them."""

import asyncio
import sys
import time
from typing import Annotated

import typer

from app.cli.deadletters import selecting
from app.cli.options import escape_unencodable, quiet
from app.cli.render.dlq import tally_lines
from app.cli.render.tap import lines, paint
from app.deadletters.group import course
from app.deadletters.scan import scan
from app.deadletters.selection import Selection
from app.deadletters.tally import LetterTally
from app.inspect.decoding import RecordDecoder
from app.inspect.text import json_line, shown
from app.inspect.views import Viewer, as_json
from app.kafka.access import access
from app.kafka.reading.record_log import record_log
from app.settings import Settings, load

Places = Annotated[
    list[str] | None,
    typer.Argument(metavar="PLACE", help="As `tap dlq` shows them: 3:17, or iot-stream-dlq-3@17."),
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="So many letters at most.")]


def ls(
    reason: selecting.Reasons = None,
    stage: selecting.Stages = None,
    topic: selecting.Topics = None,
    user: selecting.User = None,
    device: selecting.Devices = None,
    partition: selecting.Partitions = None,
    offset: selecting.Offsets = None,
    since: selecting.Since = None,
    until: selecting.Until = None,
    quarantine: selecting.Quarantine = False,
    as_json: selecting.AsJson = False,
) -> None:
    """Count the dead letters: by reason, stage, user, device and age.

    Example: iot-stream dlq ls --since 24h --user alice
    """
    chosen, times = selecting.selection(reason, stage, topic, user, device, partition, offset, since, until)
    quiet()
    settings = load()
    tally = asyncio.run(counted(settings, topic_of(settings, quarantine), chosen, times))
    escape_unencodable()
    print(*([json_line(tally.as_json())] if as_json else tally_lines(tally)), sep="\n")


def show(
    place: Places = None,
    reason: selecting.Reasons = None,
    stage: selecting.Stages = None,
    topic: selecting.Topics = None,
    user: selecting.User = None,
    device: selecting.Devices = None,
    partition: selecting.Partitions = None,
    offset: selecting.Offsets = None,
    since: selecting.Since = None,
    until: selecting.Until = None,
    limit: Limit = 10,
    quarantine: selecting.Quarantine = False,
    as_json: selecting.AsJson = False,
) -> None:
    """Show dead letters: where they come from, why they were refused, headers and payload; bytes as a hex dump.

    Exit code 1: there is none.

    Example: iot-stream dlq show 3:17
    """
    places = [*(offset or ()), *map(_place, place or ())]
    chosen, times = selecting.selection(reason, stage, topic, user, device, partition, places, since, until)
    quiet()
    settings = load()
    escape_unencodable()
    if not asyncio.run(_shown(settings, topic_of(settings, quarantine), chosen, times, limit, as_json)):
        print("iot-stream: there is no such dead letter", file=sys.stderr)
        raise typer.Exit(1)


def topic_of(settings: Settings, quarantine: bool) -> str:
    """The topic whose letters are meant."""
    return settings.kafka_quarantine_topic if quarantine else settings.kafka_dlq_topic


async def counted(settings: Settings, topic: str, chosen: Selection, times: selecting.Times) -> LetterTally:
    """The counts of the letters that are chosen. Raises TransientError and PermanentError as `record_log` does."""
    tally = LetterTally(time.time_ns() // 1_000_000)
    async with record_log(access(settings), topic, committed=False) as log:
        async for _, letter in scan(log, await course(log, chosen, times, {}, again=True)):
            if letter is None:
                tally.unreadable += 1
            else:
                tally.add(letter)
    return tally


async def _shown(
    settings: Settings, topic: str, chosen: Selection, times: selecting.Times, limit: int, for_machine: bool
) -> int:
    viewer, colours, count = Viewer(RecordDecoder(settings)), paint(), 0
    async with record_log(access(settings), topic, committed=False) as log:
        async for record, letter in scan(log, await course(log, chosen, times, {}, again=True)):
            view = viewer.dead_letter(record, time.time_ns() // 1_000_000)
            if for_machine:
                print(json_line(as_json(view)))
            else:
                print(*lines(view, colours), sep="\n")
                if letter is not None:
                    origin = f"{shown(letter.dead.original_topic)}, refused {shown(letter.dead.timestamp)}"
                    print(f"    {colours('origin', '2')} {origin}")
            count += 1
            if count >= limit:
                break
    return count


def _place(text: str) -> str:
    """`topic-3@17` as `3:17`; anything else as it is."""
    head, at, offset = text.rpartition("@")
    return f"{head.rpartition('-')[2]}:{offset}" if at else text
