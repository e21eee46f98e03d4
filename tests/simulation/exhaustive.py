"""Every single crash, and every two, of a short run.

Between two changes of the world (a request sent, carried out, answered) all crashes are the same one: a dead process
has forgotten whatever else it did. So it is enough to crash right after each change, with what was under way then once
arrived and once lost.
"""

from collections.abc import Iterator

from tests.simulation.faults import Fault
from tests.simulation.schedule import Outcome, run
from tests.simulation.shape import Shape
from tests.simulation.worker import Parts

SHORT = Shape(partitions=1, length=3, workers=1, batch_rows=2, shuffled=False)
# Scripts of four messages, with rows, alerts and: a dead letter and a redelivered row; a row that the database
# refuses; a redelivered dead letter.
SEEDS = ("short 16", "short 28", "short 29")


def crashes(outcome: Outcome, after: int = 0) -> Iterator[Fault]:
    """Every crash of this run that makes a difference and comes later than step `after`."""
    for step in outcome.changes:
        if step > after:
            yield Fault(step + 1, "crash", (0, "arrives"))
            if step in outcome.asked:
                yield Fault(step + 1, "crash", (0, "lost"))


def first_crashes(seed: str, parts: type[Parts] = Parts) -> list[Fault]:
    """The first crashes of the short run with this seed."""
    return list(crashes(run(seed, shape=SHORT, plan=(), parts=parts)))


def outcomes(seed: str, first: Fault, parts: type[Parts] = Parts) -> Iterator[Outcome]:
    """The run with this first crash, and then with every second one."""
    once = run(seed, shape=SHORT, plan=(first,), parts=parts)
    yield once
    for second in crashes(once, first.step):
        yield run(seed, shape=SHORT, plan=(first, second), parts=parts)
