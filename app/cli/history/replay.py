"""`iot-stream history replay`: a part of the input topic stored into another table; no worker notices."""

import asyncio
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from xxhash import xxh3_64_hexdigest

from app.cli.history import selecting
from app.cli.options import escape_unencodable, quiet, say
from app.cli.progress import progress
from app.cli.render.history import course_lines, replay_lines, replay_progress
from app.cli.stopping import interruptible
from app.history.counts import HistoryCounts
from app.history.course import HistoryCourse, history_course, marks_of
from app.history.decoding import HistoryDecoder
from app.history.replay import PATIENCE, HistoryReplay
from app.history.target_table import TargetTable, is_there, place_of, prepare
from app.inspect.text import json_line
from app.kafka.access import access
from app.kafka.group_state import offsets_of_group
from app.kafka.reading.offset_ranges import PartError, PartitionRange, PartOfTopic, offsets_of
from app.kafka.reading.record_log import record_log
from app.ops.audit import Audit, audited
from app.runtime.interrupt import Interrupt
from app.settings import Settings, load

Into = Annotated[
    str, typer.Option("--into", metavar="TABLE", help="The table, made where it is missing: readings_again, or s.t.")
]
Again = Annotated[
    bool, typer.Option("--again", help="From the first record on, also what the same command has stored.")
]
Rate = Annotated[float | None, typer.Option("--rate", min=0.1, help="Records a second, at most.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this the command only says what it would do.")]
Patience = Annotated[float, typer.Option("--timeout", min=1, help="Seconds that an outage may take.")]


class HistoryJob(NamedTuple):
    """What the options say."""

    asked: PartOfTopic
    words: Mapping[str, object]
    table: str  # a SQL name
    group: str  # that keeps how far the replay is
    again: bool
    patience: float
    rate: float | None


def replay(
    into: Into,
    since: selecting.Since = None,
    until: selecting.Until = None,
    partition: selecting.Partitions = None,
    offset: selecting.Offsets = None,
    rate: Rate = None,
    again: Again = False,
    yes: Yes = False,
    timeout: Patience = PATIENCE,
    as_json: selecting.AsJson = False,
) -> None:
    """Store the readings of a part of the input topic into a table, decoded as a worker decodes them now.

    No worker notices, no alert is sent. The same command goes on where it was ended, and stores no row twice.

    Example: iot-stream history replay --since 7d --into readings_again --yes
    """
    asked = selecting.part_of_topic(partition, offset, since, until)
    table = selecting.table(into, "--into").sql
    words = selecting.words(partition, offset, since, until)
    quiet()
    settings = load()
    place = place_of(settings, table)
    name = xxh3_64_hexdigest(msgspec.json.encode([words, settings.kafka_topic, place], order="sorted"))[:12]
    job = HistoryJob(asked, words, table, f"{settings.group_id}-history-{name}", again, timeout, rate)
    try:
        code = asyncio.run((_acted if yes else _dry)(settings, job, as_json))
    except PartError as error:
        raise typer.BadParameter(str(error), param_hint="--offset" if offset else "--partition") from None
    raise typer.Exit(code)


async def _planned(settings: Settings, job: HistoryJob) -> HistoryCourse:
    kafka = access(settings)
    before = marks_of(await offsets_of_group(kafka, job.group))
    again = job.again or not await is_there(settings, job.table)  # what was stored is gone with the table
    async with record_log(kafka, settings.kafka_topic) as log:
        ranges = await offsets_of(log, job.asked)
        starts, ends = await log.starts(), await log.ends()
        held = {tp: PartitionRange(starts[tp], ends[tp]) for tp in ranges}
        return history_course(ranges, held, before, again=again)


async def _dry(settings: Settings, job: HistoryJob, as_json: bool) -> int:
    plan = await _planned(settings, job)
    if as_json:
        print(json_line({"done": False, "table": job.table, **_course(plan)}))
        return 0
    print(*course_lines(settings.kafka_topic, job.table, plan), sep="\n")
    if plan.resumed:
        say(f"this goes on with a replay that has stored {plan.stored_before:,} rows; --again begins it anew")
    say("nothing is done yet: give --yes")
    return 0


async def _acted(settings: Settings, job: HistoryJob, as_json: bool) -> int:
    escape_unencodable()
    began = time.monotonic()
    plan = await _planned(settings, job)
    what = {"topic": settings.kafka_topic, "part": job.words, "table": job.table, "group": job.group}
    async with audited(settings, "history replay", what) as audit:
        if await prepare(settings, job.table):
            say(f"the table {job.table} is made")
        counts, whole = await _stored(settings, job, plan, audit)
    _report(counts, time.monotonic() - began, plan, job, as_json)
    return 0 if whole else 130


async def _stored(settings: Settings, job: HistoryJob, plan: HistoryCourse, audit: Audit) -> tuple[HistoryCounts, bool]:
    """What became of the records, and whether that is all of them; else Ctrl-C came before."""
    with interruptible() as stop, progress(plan.left) as show:
        table = TargetTable(settings, job.table, Interrupt(stop), job.patience)
        one = HistoryReplay(
            access(settings), settings.kafka_topic, job.group, plan, partial(HistoryDecoder, settings), table,
            Interrupt(stop), lambda counts: show(plan.left, partial(replay_progress, counts, plan.left)), job.patience,
            job.rate,
        )  # fmt: skip
        try:
            whole = await one.run()
            audit.outcome = "done" if whole else "interrupted"
        finally:
            audit.counts = one.counts.as_json()
            await table.close()
    return one.counts, whole


def _report(counts: HistoryCounts, seconds: float, plan: HistoryCourse, job: HistoryJob, as_json: bool) -> None:
    if as_json:
        numbers = {"table": job.table, "group": job.group, "seconds": round(seconds, 3), **counts.as_json()}
        print(json_line({"done": not plan.left, **numbers, **_course(plan)}))
        return
    print(*replay_lines(counts, job.table, seconds), sep="\n")
    sys.stdout.flush()
    if plan.resumed:
        say(f"{plan.stored_before:,} rows were stored before, by the command that this one went on with")
    if plan.left:
        say(f"stopped with {plan.left:,} records to look at: the same command goes on there")


def _course(plan: HistoryCourse) -> dict[str, Any]:
    places = [
        {"partition": tp.partition, "at": at, "end": plan.ends[tp]}
        for tp, at in sorted(plan.at.items(), key=lambda one: one[0].partition)
    ]
    return {
        "left": plan.left, "resumed": plan.resumed, "stored_before": plan.stored_before, "partitions": places,
    }  # fmt: skip
