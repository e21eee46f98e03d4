"""`iot-stream history reset`: the offsets of the workers set to another place."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any

import msgspec
import typer

from app.cli.data.local_target import local_stack
from app.cli.history import selecting
from app.cli.options import Directory, quiet, say
from app.cli.render.history import counted, member_lines, reset_lines
from app.cli.stopping import interruptible
from app.errors import PermanentError
from app.history.reset import ResetPlan, carry_out, plan
from app.inspect.text import json_line
from app.kafka.access import access
from app.kafka.group_state import GroupMember, members_of, offsets_of_group
from app.kafka.reading.offset_ranges import PartError, PartOfTopic
from app.local.health import wait_until_well
from app.local.hold import worker_held
from app.local.layout import Layout
from app.ops.audit import audited
from app.settings import Settings, load

LEAVE_SECONDS = 10.0  # beyond the session, for a member that is gone to be missed
LOOK_SECONDS = 0.3

Since = Annotated[
    str | None, typer.Option("--since", help="To the first record written since: 90s, 12h, 7d ago, or a time.")
]
Until = Annotated[str | None, typer.Option("--until", help="Behind the last record written until then.")]
Places = Annotated[
    list[str] | None, typer.Option("--offset", help="To this offset: 3:100 of partition 3, 100 of each. Repeatable.")
]
Earliest = Annotated[bool, typer.Option("--to-earliest", help="To the first record that Kafka still has.")]
Stop = Annotated[
    bool, typer.Option("--stop", help="Stop the worker of the local stack first, and start it again afterwards.")
]
Wait = Annotated[
    float | None,
    typer.Option(
        "--wait", min=0, help="Seconds to wait until no worker is left. [0; with --stop their session and 10]"
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this the command only says what it would do.")]


def reset(
    since: Since = None,
    until: Until = None,
    offset: Places = None,
    to_earliest: Earliest = False,
    partition: selecting.Partitions = None,
    stop: Stop = False,
    wait: Wait = None,
    yes: Yes = False,
    directory: Directory = None,
    as_json: selecting.AsJson = False,
) -> None:
    """Set the offsets of the workers to another place, so that they read history again, or pass over a part of it.

    Refused while a worker runs. Rows that are there stay as they are, and no alert is sent again.

    Example: iot-stream history reset --since 6h --stop --yes
    """
    asked = _asked(since, until, offset, to_earliest, partition)
    words = {**selecting.words(partition, offset, since, until), **({"to_earliest": True} if to_earliest else {})}
    quiet()
    stack = local_stack(directory) if stop else None
    settings = stack.settings() if stack is not None else load()
    patience = wait if wait is not None else settings.kafka_session_timeout + LEAVE_SECONDS if stop else 0.0
    try:
        found, members = asyncio.run(_look(settings, asked))
        if yes:
            with _worker_stopped(stack.layout) if stack is not None else nullcontext():
                found = asyncio.run(_act(settings, asked, words, patience))
    except PartError as error:
        raise typer.BadParameter(str(error), param_hint="--offset" if offset else "--partition") from None
    _report(settings, found, members, stop=stop, done=yes, as_json=as_json)
    if yes and stack is not None:
        say("starting the worker again")
        wait_until_well(stack.layout)


def _asked(
    since: str | None,
    until: str | None,
    offsets: Sequence[str] | None,
    earliest: bool,
    partitions: Sequence[int] | None,
) -> PartOfTopic:
    given = [name for name, value in (("--since", since), ("--until", until), ("--offset", offsets)) if value]
    given += ["--to-earliest"] if earliest else []
    if len(given) != 1:
        what = f"{' and '.join(given)} do not go together" if given else "say where to"
        raise typer.BadParameter(f"{what}: one of --since, --until, --offset, --to-earliest", param_hint="--since")
    asked = selecting.part_of_topic(partitions, offsets, since, until)
    for one in asked.offsets:
        if one.first != one.last:
            raise typer.BadParameter("name one offset: 3:100, or 100 for each partition", param_hint="--offset")
    return asked


async def _look(settings: Settings, asked: PartOfTopic) -> tuple[ResetPlan, tuple[GroupMember, ...]]:
    kafka, group, topic = access(settings), settings.group_id, settings.kafka_topic
    found = await plan(kafka, topic, await offsets_of_group(kafka, group), asked)
    return found, await members_of(kafka, group, topic)


async def _act(settings: Settings, asked: PartOfTopic, words: dict[str, object], patience: float) -> ResetPlan:
    """The offsets as they are set: those of a worker that has just stopped are newer than those that were shown."""
    kafka, group = access(settings), settings.group_id
    await _wait_for_no_member(settings, patience)
    found, _ = await _look(settings, asked)
    what = {"group": group, "topic": found.topic, "to": words}
    async with audited(settings, "history reset", what) as audit:
        with interruptible():  # Ctrl-C waits for Kafka's answer: else nobody would know whether the offsets are set
            await carry_out(kafka, group, found)
        audit.counts = {"partitions": len(found.moves), "again": found.again, "skipped": found.skipped}
        audit.outcome = "done"
    return found


async def _wait_for_no_member(settings: Settings, seconds: float) -> None:
    """Return once the group has no member. Raises PermanentError that names its members after `seconds`."""
    kafka, group, session = access(settings), settings.group_id, settings.kafka_session_timeout
    deadline = asyncio.get_running_loop().time() + seconds
    while members := await members_of(kafka, group, settings.kafka_topic):
        if asyncio.get_running_loop().time() >= deadline:
            names = "; ".join(map(str, members))
            cure = (
                "stop them first (docs/replay.md; --stop does so in the local stack). A worker that was killed, or is "
                f"a static member, stays a member until its session ends, {session:g} s as it is set here"
            )
            raise PermanentError(f"no offset is set: the group {group} has {counted(members)}: {names}; {cure}")
        await asyncio.sleep(LOOK_SECONDS)


@contextmanager
def _worker_stopped(layout: Layout) -> Iterator[None]:
    """The worker of a local stack stopped for the block; the supervisor starts it again afterwards."""
    say("stopping the worker of the local stack")
    with worker_held(layout):
        yield


def _report(
    settings: Settings, found: ResetPlan, members: Sequence[GroupMember], *, stop: bool, done: bool, as_json: bool
) -> None:
    """Say it now: what comes after that takes a minute, and may fail."""
    if as_json:
        print(json_line(_as_json(settings, found, members, done=done)), flush=True)
        return
    print(*reset_lines(settings.group_id, found, done=done), sep="\n", flush=True)
    if not done:
        print(*member_lines(settings.group_id, members, will_be_stopped=stop), sep="\n", end="", flush=True)
        say("nothing is done yet: give --yes")


def _as_json(settings: Settings, found: ResetPlan, members: Sequence[GroupMember], *, done: bool) -> dict[str, Any]:
    moves = [{**msgspec.to_builtins(one), "again": one.again, "skipped": one.skipped} for one in found.moves]
    return {
        "done": done, "group": settings.group_id, "topic": found.topic, "partitions": moves, "again": found.again,
        "skipped": found.skipped, "members": [] if done else msgspec.to_builtins(members),
    }  # fmt: skip
