"""Every single crash, and every two, of a short run; and a worker stalled at every point of one.

Between two changes of the world (a request sent, carried out, answered) all crashes are the same one: a dead process
has forgotten whatever else it did. So it is enough to crash right after each change, with what was under way then once
arrived and once lost.
"""

from collections.abc import Iterator
from dataclasses import replace

from tests.simulation.faults import Fault
from tests.simulation.parts import Parts
from tests.simulation.schedule import Outcome, run
from tests.simulation.shape import Shape

SHORT = Shape(partitions=1, length=3, workers=1, batch_rows=2, shuffled=False, in_memory=1)
# Scripts of four messages, with rows, alerts and: a dead letter and a redelivered row; a row that the database
# refuses; a redelivered dead letter; averages, and two rows that change of value leaves out. The fifth has seven
# messages: a batch that is staged, one that COPY puts straight into the table, and one whose COPY meets a duplicate.
DIRECT = replace(SHORT, length=5, direct_min_rows=1)
SEEDS = {
    "short 16": SHORT,
    "short 28": SHORT,
    "short 29": SHORT,
    "short 349": replace(SHORT, sampled=True),
    "short 2": DIRECT,
}


def crashes(outcome: Outcome, after: int = 0) -> Iterator[Fault]:
    """Every crash of this run that makes a difference and comes later than step `after`."""
    for step in outcome.changes:
        if step > after:
            yield Fault(step + 1, "crash", (0, "arrives"))
            if step in outcome.asked:
                yield Fault(step + 1, "crash", (0, "lost"))


def first_crashes(seed: str, parts: type[Parts] = Parts) -> list[Fault]:
    """The first crashes of the short run with this seed."""
    return list(crashes(run(seed, shape=SEEDS[seed], plan=(), parts=parts)))


def outcomes(seed: str, first: Fault, parts: type[Parts] = Parts) -> Iterator[Outcome]:
    """The run with this first crash, and then with every second one."""
    once = run(seed, shape=SEEDS[seed], plan=(first,), parts=parts)
    yield once
    for second in crashes(once, first.step):
        yield run(seed, shape=SEEDS[seed], plan=(first, second), parts=parts)


# What the first worker has read and not yet stored, the second does meanwhile.
PAIR = Shape(partitions=1, length=12, workers=2, batch_rows=3, shuffled=False, in_memory=1)
STALL_SEEDS = ("stall 1", "stall 3", "stall 6")


def stalls(seed: str, parts: type[Parts] = Parts, share: slice = slice(None)) -> Iterator[Outcome]:
    """Runs of two workers, one of them stalled for longer than its session at a point of its own; then a replay.

    `share` takes some of all these points.
    """
    points = [
        Fault(step + 1, "zombie", (slot, 14.0, "replay"))
        for step in run(seed, shape=PAIR, plan=(), parts=parts).changes
        for slot in range(PAIR.workers)
    ]
    for point in points[share]:
        yield run(seed, shape=PAIR, plan=(point,), parts=parts)
