"""One run: the load, the faults of the schedule, and the accounts at the end."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.faults.accounts import draw_up
from tools.faults.begun_anew import sinks_settled
from tools.faults.harm import inflict
from tools.faults.identity import Undo
from tools.faults.outcome import Episode, Outcome
from tools.faults.recovery import LONGEST, back_off, marks, recovered, whole
from tools.faults.rig import Rig, rig
from tools.faults.schedule import Fault, groups

OVER_MQTT = 0.4  # share of the messages that come over MQTT; the rest is written to Kafka as by the bridge
OVER_A_WAY = 0.12  # share of each gateway in the messages not yet assigned; OVER_MQTT applies to the rest
PAUSE = 0.5  # seconds between two faults
SLOT = 7.0  # first estimate of the seconds per fault, including recovery, for the rate
FASTEST, LAST = 3000, 5000  # maximum messages a second; messages sent after the last fault
OUTAGE_LIMIT = 5.0  # seconds to recover from a database outage, in addition to the current back-off
TAKE_OVER = 3.0  # seconds in addition to the session timeout

Say = Callable[[str], None]
Names = Sequence[str]


async def run(
    directory: Path, seed: int, messages: int, faults: Sequence[Fault], say: Say, *,
    clocks: bool, ways: Names = (), sinks: Names = (),
) -> Outcome:  # fmt: skip
    """Send messages over Kafka, MQTT and these gateways during the faults, then account for every message, also at the
    destinations of these sinks.

    Logs remain in `directory`.
    """
    outcome, began = Outcome(seed), time.monotonic()
    async with rig(directory, seed, f"run{seed % 10**9}", clocks=clocks, ways=ways, sinks=sinks) as made:
        for pace in made.ways.values():
            pace.goal = int(messages * OVER_A_WAY)
            messages -= pace.goal
        made.mqtt.goal = int(messages * OVER_MQTT)
        made.kafka.goal = messages - made.mqtt.goal
        try:
            await _suffer(made, outcome, groups(faults), say)
        except TimeoutError:
            outcome.problems.append(f"no recovery within {LONGEST:g} s after fault {len(outcome.episodes) + 1}")
            say(outcome.problems[-1])
        await _finish(made, outcome, say)
    outcome.took = time.monotonic() - began
    return outcome


async def _suffer(rig: Rig, outcome: Outcome, todo: Sequence[Sequence[Fault]], say: Say) -> None:
    slot, count = SLOT, 0
    _set_rate(rig, slot, len(todo) + 1)
    await recovered(rig, marks(rig), reported=True)
    for number, group in enumerate(todo):
        began = time.monotonic()
        _set_rate(rig, slot, len(todo) - number)
        await asyncio.sleep(PAUSE)
        episode = await _suffer_one(rig, outcome, group)
        outcome.episodes.append(episode)
        if episode.seconds > episode.limit:
            outcome.late.append(f"{episode}, and not within {episode.limit:.1f} s")
        slot += (time.monotonic() - began - slot) / min(number + 2, 20)
        count += len(group)
        say(f"{count:4d}  {episode}  {rig.sent:9,} sent")


def _set_rate(rig: Rig, seconds: float, faults: int) -> None:
    """Set the rate so that the messages last as long as the faults, with `seconds` per fault."""
    for pace in rig.paces:
        left = pace.goal - pace.next
        pace.rate = min(left / (seconds * faults), FASTEST * pace.goal / sum(one.goal for one in rig.paces))
        pace.share = pace.next + min(2 * left // faults, left // 2)


def _revive(rig: Rig, outcome: Outcome) -> None:
    """Note a problem for each program that has ended by itself, and start the program again."""
    for one in rig.programs.values():
        if not one.alive:
            outcome.problems.append(f"{one.name} ended by itself:\n{one.tail(15)}")
            one.start()


async def _suffer_one(rig: Rig, outcome: Outcome, group: Sequence[Fault]) -> Episode:
    episode = Episode(group, marks(rig))
    alone = group[0] if len(group) == 1 else None
    dies = alone is not None and alone.kind.action == "kill -9" and alone.kind.target.startswith("worker")
    reported = any(fault.kind.target == "notifier" for fault in group)
    undone = [await inflict(rig, fault) for fault in group]
    taken_over = asyncio.create_task(recovered(rig, marks(rig), reported=reported)) if dies else None
    await asyncio.gather(*(_undo(fault, undo) for fault, undo in zip(group, undone, strict=True)))
    if alone:
        episode.limit = _limit(rig, alone, dies=dies)
    undone_at = time.monotonic()
    episode.seconds = await (taken_over or recovered(rig, marks(rig), reported=reported))
    _revive(rig, outcome)
    await whole(rig)
    episode.whole = time.monotonic() - undone_at
    return episode


async def _undo(fault: Fault, undo: Undo) -> None:
    await asyncio.sleep(fault.seconds)
    await undo()


def _limit(rig: Rig, fault: Fault, *, dies: bool) -> float:
    if dies:
        return rig.site.settings.kafka_session_timeout + TAKE_OVER
    if fault.kind.target in ("postgres link", "PostgreSQL"):
        return OUTAGE_LIMIT + back_off(rig)
    return math.inf


async def _finish(rig: Rig, outcome: Outcome, say: Say) -> None:
    for pace in rig.paces:
        pace.rate, pace.share = LAST / len(rig.paces), pace.goal
    try:
        await _settle(rig)
    except (TimeoutError, AssertionError) as error:
        outcome.problems.append(f"not settled within {LONGEST:g} s after the last message: {error}")
    for one in rig.programs.values():
        await asyncio.to_thread(one.stop)
    await _hear_all(rig)
    say("all is settled: accounting for every message")
    outcome.ends = marks(rig)
    outcome.repeats = rig.tail.repeats()
    outcome.accounts = await draw_up(rig.site, rig.streams, rig.tail, rig.ear.heard)
    for name, where in rig.sinks.items():
        audit = await where.audit(rig.streams, rig.tail.times)
        outcome.accounts.problems += audit.problems
        outcome.sinks[name.removeprefix("sink ")] = audit.repeats


async def _settle(rig: Rig) -> None:
    """Send the remaining messages, and wait until they are processed."""
    await asyncio.gather(*(pace.reached() for pace in rig.paces))
    async with asyncio.timeout(LONGEST):
        while not all(rig.tail.has(stream) for stream in rig.streams):
            rig.check()
            await asyncio.sleep(0.1)
    await rig.site.settled(LONGEST)
    await sinks_settled(rig, LONGEST)


async def _hear_all(rig: Rig) -> None:
    """Wait until no alert arrives for some time."""
    count = -1
    while count != len(rig.ear.heard):
        count = len(rig.ear.heard)
        await asyncio.sleep(2)
