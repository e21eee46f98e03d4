"""`iot-stream dlq replay`: dead letters put back onto the live path."""

import asyncio
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from app.cli.deadletters import selecting
from app.cli.deadletters.looking import topic_of
from app.cli.deadletters.outlet_of import Target, outlet_of, quarantine_of
from app.cli.options import escape_unencodable, quiet, say
from app.cli.progress import progress
from app.cli.render.dlq import left_out_lines, progress_line, summary, tally_lines
from app.cli.stopping import interruptible
from app.deadletters import json_patch
from app.deadletters.group import Course, committed, course
from app.deadletters.mending import ArrivalTime, LeftOut, Mending, field_of, mended
from app.deadletters.outlets import PATIENCE
from app.deadletters.replay import EXAMPLES, Replay, ReplayCounts
from app.deadletters.scan import scan
from app.deadletters.selection import Selection
from app.deadletters.sole_replay import SoleReplay, sole_replay
from app.deadletters.tally import LetterTally
from app.errors import TransientError
from app.inspect.text import json_line
from app.kafka.access import access
from app.kafka.reading.record_log import record_log
from app.ops.audit import Audit, audited
from app.settings import Settings, load

To = Annotated[Target, typer.Option("--to", help="The input topic of Kafka, or the MQTT topic each came by.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set a field of the payload. Repeatable.")
]
Fix = Annotated[Path | None, typer.Option("--fix", metavar="FILE", help="JSON Patch (RFC 6902) for every payload.")]
Arrivals = Annotated[
    ArrivalTime,
    typer.Option("--arrival", help="The time of arrival by which limits on time judge: keep the first, or now."),
]
Rate = Annotated[float | None, typer.Option("--rate", min=0.1, help="Letters a second, at most.")]
MaxReplays = Annotated[
    int | None,
    typer.Option("--max-replays", min=0, help="One put back so often goes to quarantine. [IOT_DLQ_MAX_REPLAYS]"),
]
Again = Annotated[
    bool, typer.Option("--again", help="From the first letter on, also those that the same command has put back.")
]
DryRun = Annotated[bool, typer.Option("--dry-run/--yes", help="Only count; --yes acts.  [--dry-run]")]


LOST = (
    "Kafka has not heard of this command for so long that it may have let another one begin: nothing more is sent; the "
    "same command goes on where it was"
)


class _Job(NamedTuple):
    """What the options say."""

    chosen: Selection
    times: selecting.Times
    topic: str
    group: str
    mending: Mending
    to: Target
    most: int | None
    rate: float | None
    again: bool
    patience: float

    def words(self) -> dict[str, Any]:
        """For the audit line."""
        return {
            "topic": self.topic, "selection": self.chosen.words(), "to": self.to.value, "group": self.group,
            "set": sorted(self.mending.fields), "patched": bool(self.mending.patch),
            "arrival": self.mending.arrival.value, "again": self.again,
        }  # fmt: skip


def replay(
    reason: selecting.Reasons = None,
    stage: selecting.Stages = None,
    topic: selecting.Topics = None,
    user: selecting.User = None,
    device: selecting.Devices = None,
    partition: selecting.Partitions = None,
    offset: selecting.Offsets = None,
    since: selecting.Since = None,
    until: selecting.Until = None,
    dry_run: DryRun = True,
    to: To = Target.KAFKA,
    set_field: Sets = None,
    fix: Fix = None,
    arrival: Arrivals = ArrivalTime.KEEP,
    rate: Rate = None,
    max_replays: MaxReplays = None,
    again: Again = False,
    quarantine: selecting.Quarantine = False,
    timeout: selecting.Patience = PATIENCE,
    as_json: selecting.AsJson = False,
) -> None:
    """Put dead letters back onto the live path, mended if need be. Without --yes: only count them.

    The same command goes on where it was ended, and takes no letter twice. Exit code 1: the broker refused some.

    Example: iot-stream dlq replay --reason wrong_type --user alice --set battery=90 --yes
    """
    chosen, times = selecting.selection(reason, stage, topic, user, device, partition, offset, since, until)
    mending = _mending(arrival, set_field, fix)
    quiet()
    settings = load()
    source = topic_of(settings, quarantine)
    group = f"{settings.group_id}-dlq-{chosen.digest(repr((source, to.value, mending.words)))}"
    most = max_replays if max_replays is not None or quarantine else settings.dlq_max_replays
    job = _Job(chosen, times, source, group, mending, to, most, rate, again, timeout)
    raise typer.Exit(asyncio.run((_dry if dry_run else _acted)(settings, job, as_json)))


def _mending(arrival: ArrivalTime, fields: Sequence[str] | None, fix: Path | None) -> Mending:
    try:
        found = dict(field_of(text) for text in fields or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--set") from None
    if fix is None:
        return Mending(arrival, found)
    try:
        return Mending(arrival, found, json_patch.patch_of(fix.read_bytes()))
    except (OSError, json_patch.PatchError) as error:
        raise typer.BadParameter(f"{fix}: {error}", param_hint="--fix") from None


async def _planned(settings: Settings, job: _Job, log: Any) -> Course:
    before = await committed(access(settings), job.group)
    return await course(log, job.chosen, job.times, before, again=job.again)


async def _dry(settings: Settings, job: _Job, as_json: bool) -> int:
    escape_unencodable()
    now_ms = time.time_ns() // 1_000_000
    tally, counts = LetterTally(now_ms), ReplayCounts()
    async with record_log(access(settings), job.topic, committed=False) as log:
        plan = await _planned(settings, job, log)
        async for _, letter in scan(log, plan):
            if letter is None:
                continue
            tally.add(letter)
            if job.most is not None and letter.dead.replay_count >= job.most:
                counts.quarantined += 1
            elif isinstance(made := mended(letter, job.mending, now_ms), LeftOut):
                counts.left_out[made.why] += 1
                examples = counts.examples.setdefault(made.why, [])
                if len(examples) < EXAMPLES:
                    examples.append(f"{letter.partition}:{letter.offset} {made.detail}")
            else:
                counts.replayed += 1
    if as_json:
        print(json_line({"dry_run": True, **_numbers(counts), "chosen": tally.as_json(), "resumes": plan.resumed}))
        return 0
    print(*tally_lines(tally), *left_out_lines(counts.left_out, counts.examples), sep="\n")
    aside = f", {counts.quarantined:,} to {settings.kafka_quarantine_topic}" if counts.quarantined else ""
    say(f"{counts.replayed:,} would be put back{aside}; nothing is done yet: give --yes")
    if plan.resumed:
        say(f"this goes on with a replay that has put back {plan.was_done:,}; --again begins it anew")
    return 0


async def _acted(settings: Settings, job: _Job, as_json: bool) -> int:
    escape_unencodable()
    kafka = access(settings)
    began = time.monotonic()
    async with sole_replay(kafka, job.group, job.topic, asyncio.Event()) as sole:
        async with record_log(kafka, job.topic, committed=False) as log:
            plan = await _planned(settings, job, log)
        async with audited(settings, "dlq replay", job.words()) as audit:
            counts, whole = await _put_back(settings, job, plan, audit, sole)
    _report(counts, time.monotonic() - began, plan, job, as_json)
    if not whole:
        return 130
    return 1 if counts.refused else 0


async def _put_back(
    settings: Settings, job: _Job, plan: Course, audit: Audit, sole: SoleReplay
) -> tuple[ReplayCounts, bool]:
    """What became of the letters, and whether that is all of them; else Ctrl-C came before. Raises TransientError when
    another command may have begun to put them back.
    """
    with interruptible(sole.stop) as stop, progress(plan.left) as show:
        aside = quarantine_of(settings, stop, job.patience)
        outlet = outlet_of(settings, job.to, sole, job.patience)
        one = Replay(
            access(settings), job.topic, plan, job.mending, outlet, aside, job.most, job.rate, sole,
            lambda counts: show(plan.left, partial(progress_line, counts, plan.left)), job.patience,
        )  # fmt: skip
        try:
            whole = await one.run()
            if sole.lost:
                raise TransientError(LOST)
            audit.outcome = "done" if whole else "interrupted"
        finally:
            audit.counts = _numbers(one.counts)
            await outlet.close()
            await aside.close()
    return one.counts, whole


def _report(counts: ReplayCounts, seconds: float, plan: Course, job: _Job, as_json: bool) -> None:
    if as_json:
        numbers = {**_numbers(counts), "seconds": round(seconds, 3), "resumed": plan.resumed, "left": plan.left}
        print(json_line({"dry_run": False, **numbers, "put_back_before": plan.was_done, "group": job.group}))
        return
    print(*left_out_lines(counts.left_out, counts.examples), summary(counts, seconds, job.to.value), sep="\n")
    sys.stdout.flush()
    if plan.resumed:
        say(f"{plan.was_done:,} were put back before, by the command that this one went on with")
    if plan.left:
        say(f"stopped with {plan.left:,} records to look at: the same command goes on there")


def _numbers(counts: ReplayCounts) -> dict[str, Any]:
    return {
        "read": counts.read, "replayed": counts.replayed, "quarantined": counts.quarantined,
        "refused": counts.refused, "left_out": dict(counts.left_out),
    }  # fmt: skip
