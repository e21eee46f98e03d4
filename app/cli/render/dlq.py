"""What `iot-stream dlq` shows a person: counts with bars, how a replay goes, what became of it."""

from collections.abc import Iterable, Iterator, Mapping

from app.backtest.duration import spoken
from app.deadletters.replay import ReplayCounts
from app.deadletters.tally import MOST, LetterTally
from app.inspect.text import shown, time_of

BAR = 30  # characters


def tally_lines(tally: LetterTally) -> Iterator[str]:
    """The counts of a listing, the largest first."""
    if not tally.total and not tally.unreadable:
        yield "no dead letters"
        return
    times = ", ".join(str(time_of(ms)) for ms in (tally.oldest_ms, tally.newest_ms) if ms is not None)
    yield f"{tally.total:,} dead letters{f' ({times})' if times else ''}"
    if tally.unreadable:
        yield f"{tally.unreadable:,} records that are no dead letters: look with iot-stream dlq show"
    yield from _table("reason", tally.reasons.most_common())
    yield from _table("stage", tally.stages.most_common())
    yield from _table("user", ((user or "-", count) for user, count in tally.users.most_common(MOST)), len(tally.users))
    devices = (("/".join(filter(None, ids)) or "-", count) for ids, count in tally.devices.most_common(MOST))
    yield from _table("device", devices, len(tally.devices))
    if set(tally.replays) - {0}:
        yield from _table("put back", ((f"{count} times", letters) for count, letters in sorted(tally.replays.items())))
    yield from _table("age up to", ((age, count) for age, count in tally.ages().items() if count))


def left_out_lines(left_out: Mapping[str, int], examples: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Why letters are not put back, with some of them."""
    for why, count in sorted(left_out.items(), key=lambda one: -one[1]):
        yield f"{count:,} left out: {shown(why)}"
        yield from (f"    {shown(example)}" for example in examples.get(why, ()))


def summary(counts: ReplayCounts, seconds: float, where: str) -> str:
    """A line of what a replay has done."""
    rate = counts.replayed / seconds if seconds > 0 else 0.0
    more = f", {counts.quarantined:,} to quarantine" if counts.quarantined else ""
    left = sum(counts.left_out.values())
    more += f", {left:,} left out" if left else ""
    return f"{counts.replayed:,} put back to {where}{more}, in {spoken(max(seconds, 0.001))} ({rate:,.0f}/s)"


def progress_line(counts: ReplayCounts, left: int, seconds: float) -> str:
    """How far a replay is. `left`: records still to be looked at; `seconds`: since it began."""
    rate = counts.read / seconds if seconds > 0 else 0.0
    eta = f", {spoken(max(1.0, left / rate))} to go" if rate and left else ""
    sent = counts.replayed / seconds if seconds > 0 else 0.0
    return f"{counts.replayed:,} put back of {counts.read:,} looked at, {left:,} left, {sent:,.0f}/s{eta}"


def _table(name: str, rows: Iterable[tuple[str, int]], in_all: int = 0) -> Iterator[str]:
    found = list(rows)
    if not found:
        return
    yield ""
    width = max(len(name), *(len(shown(label)) for label, _ in found))
    most = max(count for _, count in found)
    yield f"{name:<{width}}  letters"
    for label, count in found:
        yield f"{shown(label):<{width}}  {count:>9,}  {'#' * max(1, round(BAR * count / most))}"
    if in_all > len(found):
        yield f"... of {in_all:,}"
