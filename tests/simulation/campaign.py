"""Many schedules in several processes: every crash and stall of short runs, then random faults; counts, failures."""

import gc
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from multiprocessing import get_context
from queue import Empty
from typing import Any

from tests.simulation import exhaustive
from tests.simulation.parts import Parts, Unleased
from tests.simulation.schedule import Outcome, run
from tests.simulation.trace import report

CHUNK = 50
FAILURES_MAX = 5
TELL_SECONDS = 10.0


@dataclass
class Tally:
    """What some schedules came to."""

    schedules: int = 0
    steps: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def take(self, outcome: Outcome) -> None:
        self.schedules += 1
        self.steps += outcome.steps
        self.injected.update(outcome.injected)
        if outcome.failure and len(self.failures) < FAILURES_MAX:
            self.failures.append(report(outcome))

    def add(self, other: "Tally") -> None:
        self.schedules += other.schedules
        self.steps += other.steps
        self.injected.update(other.injected)
        self.failures += other.failures


@dataclass(frozen=True)
class Campaign:
    """From seed `first` on, for `seconds` or `most` random schedules; None is no limit."""

    first: int
    seconds: float | None
    most: int | None
    jobs: int

    def run(self) -> int:
        """Run, print, and return the exit code."""
        started = reported = time.monotonic()
        context = get_context("spawn")
        tallies: Any = context.Queue()
        workers = [context.Process(target=self._work, args=(job, tallies), daemon=True) for job in range(self.jobs)]
        for worker in workers:
            worker.start()
        print(
            f"seeds from {self.first} in {self.jobs} processes, after every crash, two crashes and stall of short runs",
            flush=True,
        )
        total = Tally()
        while any(worker.is_alive() for worker in workers) or not tallies.empty():
            try:
                done: Tally = tallies.get(timeout=0.2)
            except Empty:
                continue
            total.add(done)
            for failure in done.failures:
                print(failure, flush=True)
            if len(total.failures) >= FAILURES_MAX:
                break
            if time.monotonic() >= reported + TELL_SECONDS:
                reported = time.monotonic()
                rate, faults = total.schedules / (reported - started), sum(total.injected.values())
                print(f"{total.schedules:>9,} schedules, {rate:,.0f} a second, {faults:,} faults", flush=True)
        for worker in workers:
            worker.terminate()
        lost = [worker.exitcode for worker in workers if worker.exitcode not in (0, None, -15)]
        return self._end(total, time.monotonic() - started, lost)

    def _end(self, total: Tally, seconds: float, lost: list[int]) -> int:
        rate = total.schedules / seconds
        print(f"\n{total.schedules:,} schedules in {seconds:.0f} s, {rate:,.0f} a second, {total.steps:,} steps")
        for kind, number in sorted(total.injected.items()):
            print(f"{number:>9,}  {kind}")
        if lost:
            print(f"the simulator itself failed, in {len(lost)} processes")
        print(f"{len(total.failures)} broken" if total.failures else "no promise was broken")
        return 1 if total.failures or lost else 0

    def _work(self, job: int, tallies: Any) -> None:
        gc.freeze()
        gc.disable()  # a schedule is one heap of cycles: it goes at the schedule's end, still in the CPU's caches
        started = time.monotonic()
        for some in _chunks(self._outcomes(job)):
            tally = Tally()
            for outcome in some:
                tally.take(outcome)
                gc.collect()
            tallies.put(tally)
            if self.seconds is not None and time.monotonic() > started + self.seconds:
                return

    def _outcomes(self, job: int) -> Iterator[Outcome]:
        """This process's share."""
        for script in exhaustive.SEEDS:
            for first in exhaustive.first_crashes(script)[job :: self.jobs]:
                yield from exhaustive.outcomes(script, first)
        for script in exhaustive.STALL_SEEDS:
            for parts in (Parts, Unleased):
                yield from exhaustive.stalls(script, parts, share=slice(job, None, self.jobs))
        for number in count(job, self.jobs):
            if self.most is not None and number >= self.most:
                return
            yield run(str(self.first + number))


def _chunks(outcomes: Iterator[Outcome]) -> Iterator[Iterable[Outcome]]:
    while True:
        first = next(outcomes, None)
        if first is None:
            return
        yield [first, *islice(outcomes, CHUNK - 1)]
