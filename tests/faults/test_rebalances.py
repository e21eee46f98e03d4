"""Rebalances, one upon another: the last record of each partition is stored when they end, with nothing behind it."""

import math
from contextlib import ExitStack

import pytest

from tests.workers import Site
from tools.faults.rebalances.delays import report, waited
from tools.faults.rebalances.log import Calm
from tools.faults.rebalances.rounds import rebalances

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(600)]

TIMES = 20
# On a machine at rest it takes a fraction of a second (python -m tools.faults.rebalances asks for 1 s). In this test
# other programs may have the processor, so the limit is the watchdog, which doubts at its second look, 2 s after the
# first: not needed.
WATCHDOG_SECONDS = 2.0


async def test_the_last_records_of_partitions_are_stored_when_a_rebalance_ends(site: Site) -> None:
    with ExitStack() as stack:
        workers = [stack.enter_context(site.program("worker", name)) for name in ("one", "two")]
        for worker in workers:
            await worker.ready()
        said, late = report(await rebalances(site, workers, TIMES, seed=1), WATCHDOG_SECONDS)
        for worker in workers:
            worker.stop()
    print(said)
    assert not late, said


def test_a_record_that_only_a_second_rebalance_frees_has_waited_since_the_first() -> None:
    calms = [Calm(10.0, 13.0, (0, 1)), Calm(15.0, math.inf, (1,)), Calm(15.0, math.inf, (0,))]
    assert waited(calms, 0, sent=11.0, stored=15.5) == 2.5
    assert waited(calms, 0, sent=14.0, stored=15.5) == 0.5
    assert waited(calms, 0, sent=16.0, stored=16.25) == 0.25
