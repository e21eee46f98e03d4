"""What `iot-stream history` shows a person: the moves of a reset, and how a replay goes."""

from collections.abc import Iterator, Sequence

from app.backtest.duration import spoken
from app.history.counts import HistoryCounts
from app.history.course import HistoryCourse
from app.history.reset import OffsetMove, ResetPlan
from app.inspect.text import shown, time_of
from app.kafka.group_state import GroupMember

_HEAD = ("partition", "from", "written", "to", "written", "records")


def reset_lines(group: str, plan: ResetPlan, *, done: bool) -> Iterator[str]:
    """The moves of a reset, a line for each partition, and what they mean."""
    yield f"group {group}, topic {plan.topic}"
    rows = [_HEAD, *map(_row, plan.moves)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    be = "are" if done else "would be"
    if plan.again:
        yield f"{plan.again:,} {be} read again: rows that are there stay as they are, and no alert is sent again"
    if plan.skipped:
        yield f"{plan.skipped:,} {be} passed over: no worker stores these records"
    if not plan.again and not plan.skipped:
        yield "the workers go on where they are"


def member_lines(group: str, members: Sequence[GroupMember], *, will_be_stopped: bool) -> Iterator[str]:
    """Who is in the group, where somebody is: a reset is refused until they are gone."""
    if members:
        what = "the worker of the local stack would be stopped" if will_be_stopped else "stop them first"
        yield f"the group {group} has {counted(members)}; {what}"
        yield from (f"    {member}" for member in members)
        yield ""


def counted(members: Sequence[GroupMember]) -> str:
    """How many members there are, in words."""
    return "1 member" if len(members) == 1 else f"{len(members)} members"


def _row(move: OffsetMove) -> tuple[str, ...]:
    records = f"{move.again:,} again" if move.again else f"{move.skipped:,} passed over" if move.skipped else "-"
    at = f"{move.at:,}" if move.committed is not None else f"({move.at:,})"
    return str(move.partition), at, _written(move.at_ms), f"{move.to:,}", _written(move.to_ms), records


def _written(ms: int | None) -> str:
    return "-" if ms is None else str(time_of(ms))


def course_lines(topic: str, table: str, course: HistoryCourse) -> Iterator[str]:
    """What a replay would read."""
    yield f"{course.left:,} records of {topic} would be stored into {table}"
    for tp, at in sorted(course.unfinished.items(), key=lambda one: one[0].partition):
        yield f"    partition {tp.partition}: offsets {at:,} to {course.ends[tp] - 1:,}"


def replay_lines(counts: HistoryCounts, table: str, seconds: float) -> Iterator[str]:
    """What became of the records of a replay that ran for so many seconds; the last line says all of it."""
    for reason, count in counts.dead.most_common():
        yield f"{count:,} dead: {reason}"
        yield from (f"    {shown(example)}" for example in counts.examples.get(str(reason), ()))
    yield from (f"{count:,} dropped by policy: {policy}" for policy, count in counts.dropped.most_common())
    parts = [f"{counts.stored:,} rows stored into {table}"]
    parts += [f"{counts.there:,} there before"] if counts.there else []
    parts += [f"{counts.again:,} redelivered"] if counts.again else []
    parts += [f"{counts.other:,} settings and the like"] if counts.other else []
    parts += [f"{dead:,} dead"] if (dead := sum(counts.dead.values())) else []
    parts += [f"{dropped:,} dropped"] if (dropped := sum(counts.dropped.values())) else []
    rate = counts.read / seconds if seconds > 0 else 0.0
    yield f"{', '.join(parts)}; {counts.read:,} records in {spoken(max(seconds, 0.001))} ({rate:,.0f}/s)"


def replay_progress(counts: HistoryCounts, left: int, seconds: float) -> str:
    """How far a replay is. `left`: records still to be looked at; `seconds`: since it began."""
    rate = counts.read / seconds if seconds > 0 else 0.0
    eta = f", {spoken(max(1.0, left / rate))} to go" if rate and left else ""
    return f"{counts.stored:,} rows of {counts.read:,} records, {left:,} left, {rate:,.0f}/s{eta}"
