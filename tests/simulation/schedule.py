"""A schedule: a seed in; the promises that were broken, and the journal, out."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice

import structlog

from tests.simulation.faults import Fault, Faults, Watch, draw_plan
from tests.simulation.kafka import INPUT
from tests.simulation.life import SERVERS, Life
from tests.simulation.loop import StuckError
from tests.simulation.parts import Disk, Parts
from tests.simulation.promises import Promises
from tests.simulation.script import Script
from tests.simulation.servers import Servers
from tests.simulation.shape import Shape, draw_shape
from tests.simulation.tables import BrokenPromise
from tests.simulation.worker import Worker
from tests.simulation.world import World

DRAIN_SECONDS = 300.0  # virtual, after the last fault: session time-out, breaker and back-off all fit in
STEPS_MAX = 60_000
SPEECH_SECONDS = 20.0  # within which watched devices speak


@dataclass
class Outcome:
    """What came of a schedule."""

    seed: str
    shape: Shape
    plan: tuple[Fault, ...]
    drawn: bool  # from the seed alone
    failure: str | None = None
    steps: int = 0
    seconds: float = 0.0
    injected: Mapping[str, int] = field(default_factory=dict)
    journal: list[tuple[float, str, str]] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)  # steps after which the world was another
    asked: set[int] = field(default_factory=set)  # steps at which requests were sent

    @property
    def digest(self) -> str:
        """Equal for equal journals."""
        return blake2b(repr((self.journal, self.failure)).encode(), digest_size=8).hexdigest()


class Schedule:
    """A world, its workers and the faults that strike them."""

    def __init__(self, seed: str, shape: Shape, plan: tuple[Fault, ...], parts: type[Parts]) -> None:
        self.shape, self.parts = shape, parts
        self.world = World(seed, shuffled=shape.shuffled)
        if shape.watched:  # an inactivity claim that is long under way may meet a sign of life
            self.world.latency["kafka"] *= self.world.random.choice((1, 10))
        self.servers = Servers(self.world, shape.partitions)
        self.servers.kafka.batch_records = shape.produce_records
        self.script = Script(
            random.Random(f"{seed} script"),
            shape.partitions,
            shape.length,
            edits=shape.edits,
            sampled=shape.sampled,
            watched=shape.watched,
            clocks=shape.clocks,
        )
        self.promises = Promises(self.servers, self.script, zombies_write=parts.zombies_write)
        self.promises.faulty = bool(plan) or shape.workers > 1  # a joining worker is a rebalance
        self.servers.kafka.on_commit = self._committed
        self.disks = [Disk() for _ in range(shape.workers)]
        self.workers: list[Worker | None] = [None] * shape.workers
        self.lives: list[Life] = []
        self.fed = False
        self.died: BaseException | None = None
        self.faults = Faults(self, plan)
        self.world.loop.steps_max = STEPS_MAX
        self.world.loop.on_tick = self._in_time

    def run(self) -> None:
        """Raises BrokenPromise, or what a worker died of."""
        with self.servers.installed():
            self._feed()
            for slot in range(self.shape.workers):
                self.world.later(self.world.random.random() * 0.5 * slot, self.start, slot)
            self.world.loop.run()
            if isinstance(self.died, BrokenPromise):
                raise self.died
            if self.died is not None:
                raise BrokenPromise(f"a worker died: {self.died!r}") from self.died
            self.promises.at_end()

    def start(self, slot: int) -> None:
        """A new life of a worker."""
        if self.workers[slot] is not None:
            return
        name = f"worker {slot}.{len(self.lives) + 1}"
        self.world.note(name, "starts")
        worker = Worker(self.servers, name, self.disks[slot], self.shape, self.parts, self.script)
        self.workers[slot] = worker
        self.lives.append(worker.life)
        worker.task.add_done_callback(lambda task: self._ended(slot, worker), context=SERVERS.copy())

    def _committed(self, partition: int, offset: int) -> None:
        self.promises.at_commit(partition, offset)
        self.look()

    def _ended(self, slot: int, worker: Worker) -> None:
        if worker.life.dead:
            return
        if worker.task.exception() is not None:
            self.died = worker.task.exception()
            while isinstance(self.died, BaseExceptionGroup):
                self.died = self.died.exceptions[0]
            self.world.loop.over = True
        self.world.note(worker.life.name, "has stopped")
        self.workers[slot] = None
        self.world.later(self.world.random.random(), self.start, slot)

    def _feed(self) -> None:
        chance, last = self.world.random, 0.0
        at_once, within = (0.0, SPEECH_SECONDS) if self.script.watched else (0.5, 1.0)
        self._coming = [iter(messages) for messages in self.script.messages]
        for partition, messages in enumerate(self.script.messages):
            left = len(messages)
            while left:
                count = min(left, 1 + int(chance.random() * 4))
                left -= count
                at = 0.0 if chance.random() < at_once else chance.random() * within
                last = max(last, at)
                self.world.later(at, self._feed_some, partition, count)
        self.world.later(last + 0.001, self._all_fed)

    def _feed_some(self, partition: int, count: int) -> None:
        records = [message.record for message in islice(self._coming[partition], count)]
        self.servers.kafka.append(INPUT, partition, records)

    def _all_fed(self) -> None:
        self.fed = True
        self.look()

    def _in_time(self) -> None:
        if self.world.loop.now > self.faults.last + DRAIN_SECONDS:
            raise BrokenPromise(f"not drained {DRAIN_SECONDS:.0f} s after the last fault")

    def look(self) -> None:
        """Whether everything has drained: called after what may have been the last event to wait for."""
        if self.fed and not self.faults.pending_restart:
            kafka = self.servers.kafka
            done = all(map(kafka.drained, range(kafka.partitions)))
            self.world.loop.over = done and self.promises.settled

    def bury_all(self) -> None:
        """End every task, so that nothing of this schedule is left."""
        for life in self.lives:
            life.dead = True
            for link in list(life.links):
                link.close("lost")
            self.world.loop.bury(life)


def run(
    seed: str,
    *,
    shape: Shape | None = None,
    plan: tuple[Fault, ...] | None = None,
    parts: type[Parts] = Parts,
    watch: Watch | None = None,
) -> Outcome:
    """Run one schedule; the same arguments give the same journal, step by step, in every process and machine.

    `watch` is called with every callback before it runs. Needs PYTHONHASHSEED=0 (tests.simulation.__main__).
    """
    random.seed(seed)  # the breaker's and the back-offs' jitter
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    drawn = shape is None and plan is None
    shape = shape or draw_shape(seed)
    plan = draw_plan(seed, shape.workers, shape.world) if plan is None else plan
    schedule = Schedule(seed, shape, plan, parts)
    schedule.faults.arm(watch)
    outcome = Outcome(seed, shape, plan, drawn)
    try:
        schedule.run()
    except (BrokenPromise, StuckError) as error:
        outcome.failure = str(error)
    except BaseException as error:
        error.add_note(f"in the schedule with seed {seed} and plan {plan}")
        raise
    finally:
        schedule.bury_all()
    world = schedule.world
    outcome.steps, outcome.seconds = world.loop.step, world.loop.now
    outcome.injected, outcome.journal = world.injected, world.journal
    outcome.changes, outcome.asked = world.changes, world.asked
    return outcome
