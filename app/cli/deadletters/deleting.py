"""`iot-stream dlq purge`: dead letters deleted for good."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from aiokafka import TopicPartition

from app.cli.deadletters import selecting
from app.cli.deadletters.looking import topic_of
from app.cli.options import moment, quiet, say
from app.deadletters.purge import Cut, cuts, delete
from app.inspect.text import json_line
from app.kafka.access import access
from app.kafka.reading.offset_ranges import PartError, offset_range
from app.kafka.reading.record_log import record_log
from app.ops.audit import audited
from app.settings import Settings, load

All = Annotated[bool, typer.Option("--all", help="All of them.")]
Until = Annotated[str | None, typer.Option("--until", help="Written until: 30d ago, or 2026-11-21T09:00:00Z.")]
Before = Annotated[
    list[str] | None, typer.Option("--before", help="PARTITION:OFFSET: what is before this place. Repeatable.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Delete, and do not ask.")]


def purge(
    everything: All = False,
    until: Until = None,
    before: Before = None,
    partition: selecting.Partitions = None,
    yes: Yes = False,
    quarantine: selecting.Quarantine = False,
    as_json: selecting.AsJson = False,
) -> None:
    """Delete the oldest dead letters for good: Kafka deletes the beginning of a partition, never single records.

    On a terminal the command asks; elsewhere it deletes with --yes alone.

    Example: iot-stream dlq purge --until 14d
    """
    if not (everything or until or before):
        raise typer.BadParameter("say which: --until, --before or --all", param_hint="--until")
    if everything and (until or before):
        raise typer.BadParameter("--all goes with neither --until nor --before", param_hint="--all")
    until_ms, places = moment(until, "--until"), _places(before)
    quiet()
    settings = load()
    topic = topic_of(settings, quarantine)
    found = asyncio.run(_found(settings, topic, frozenset(partition or ()), until_ms, places))
    count = sum(cut.end - cut.first for cut in found.values())
    if found and not as_json:
        for tp, cut in sorted(found.items()):
            print(f"{tp.topic}-{tp.partition}: {cut.end - cut.first:,} offsets, {cut.first} to {cut.end - 1}")
    sure = bool(found) and (yes or _asked(count, topic, as_json))
    if sure:
        asyncio.run(_purge(settings, topic, found, {"until": until, "before": before, "all": everything}))
    if as_json:
        print(json_line({"offsets": count, "deleted": sure}))
    else:
        print(f"{count:,} offsets of {topic} {'deleted' if sure else 'would be deleted'}")
        if found and not sure:
            say("nothing is deleted: give --yes")


def _places(texts: Sequence[str] | None) -> dict[int, int]:
    places = {}
    for text in texts or ():
        try:
            found = offset_range(text)
        except PartError:
            found = None
        if found is None or found.partition is None or found.first != found.last:
            raise typer.BadParameter(f"{text!r} is not PARTITION:OFFSET such as 3:100", param_hint="--before")
        places[found.partition] = found.first
    return places


def _asked(count: int, topic: str, as_json: bool) -> bool:
    """What a person answers; no, where there is none."""
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    answer: str = typer.prompt(f"Type {count} to delete them from {topic} for good", default="", show_default=False)
    return answer.strip() == str(count)


async def _found(
    settings: Settings, topic: str, partitions: frozenset[int], until_ms: int | None, before: Mapping[int, int]
) -> dict[TopicPartition, Cut]:
    async with record_log(access(settings), topic, committed=False) as log:
        return await cuts(log, partitions, until_ms, before)


async def _purge(
    settings: Settings, topic: str, found: Mapping[TopicPartition, Cut], what: Mapping[str, object]
) -> None:
    given = {name: value for name, value in what.items() if value}
    async with audited(settings, "dlq purge", {"topic": topic, **given}) as audit:
        audit.counts = {"offsets": sum(cut.end - cut.first for cut in found.values())}
        await delete(access(settings), found)
        audit.outcome = "done"
