"""What goes wrong in a schedule, and when: a plan drawn from the seed before anything runs.

A fault strikes before the step with its number, so leaving one out (to shrink a failing schedule) moves no other.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from app.core.state.keys import MARK_KEY
from tests.simulation.group import REBALANCE_SECONDS, SESSION_SECONDS
from tests.simulation.kafka import CHANGELOG, SOMEBODY, LogRecord
from tests.simulation.life import Handle
from tests.simulation.tables import ensure
from tests.simulation.worker import Worker
from tests.simulation.world import DATABASE_FAILURES

if TYPE_CHECKING:
    from tests.simulation.schedule import Schedule

MOVED_SECONDS = 60  # within which the states are in a new changelog; a session and a restart fit in
ANEW_SECONDS = 2.5  # a worker looks every second
POISON = (b"", b"\xff", b"\x93\x01", b"{}", b"\x93\x01\xa1x\xc0", b"7" * 40)
HORIZON = 500  # steps within which faults strike; a schedule without any has 100 to 800
KINDS = ("crash", "crash", "crash", "request", "request", "request", "rebalance", "stop", "database", "kafka", "gap",
         "pause", "zombie", "expel", "replay", "clock", "again", "late")  # fmt: skip
REQUESTS = ("produce", "produce", "sql", "sql", "commit", "fetch", "recover", "read dead letters", "join")
MODES = ("lost", "ack lost", "slow", "slow answer")
JUMPS = (-3600.0, -400.0, 400.0, 3600.0, 100 * 86400.0)  # of the workers' clocks, in seconds
# What becomes of a request while a worker lets go.
LETTING_GO = ((), ("produce", "lost"), ("produce", "lost"), ("sql", "slow answer"), ("commit", "lost"),
              ("produce", "lost", "sql", "slow answer"))  # fmt: skip


Watch = Callable[[Handle, "Schedule"], None]  # called with every callback before it runs


class Fault(NamedTuple):
    """A fault and when it happens."""

    step: int
    kind: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"step {self.step}: {self.kind} {' '.join(map(str, self.args))}".rstrip()


WORLDS = ("anew", "changelog", "poison")  # each strikes once, in schedules of that world
CALM = ("crash", "crash", "stop", "rebalance")  # what may come beside a topic that is made anew


def draw_plan(seed: str, workers: int, world: str = "") -> tuple[Fault, ...]:
    """Up to six faults, none in one schedule of ten; and the one of the schedule's world."""
    chosen = random.Random(f"{seed} plan")
    faults = []
    if world:
        faults.append(Fault(chosen.randrange(HORIZON), world, (chosen.random(),)))
    for _ in range(chosen.choice((0, 1, 1, 2, 2, 3, 3, 4, 5, 6))):
        kinds = KINDS if world in ("", "poison") else CALM
        kind, step = chosen.choice(kinds), chosen.randrange(HORIZON)
        faults.append(Fault(step, kind, _args(chosen, kind, workers)))
    return tuple(sorted(faults))


def _args(chosen: random.Random, kind: str, workers: int) -> tuple[Any, ...]:
    match kind:
        case "crash" | "gap":
            return (chosen.randrange(workers),)
        case "stop":
            return chosen.randrange(workers), *chosen.choice(LETTING_GO)
        case "pause":
            return chosen.randrange(workers), chosen.choice((0.1, 1.0, 5.0))
        case "zombie":
            return chosen.randrange(workers), chosen.choice((11.0, 14.0, 25.0))
        case "expel":
            return chosen.randrange(workers), chosen.choice((0.05, 0.5, 2.0))
        case "rebalance" | "again":
            return chosen.choice(LETTING_GO)
        case "late":
            return chosen.randrange(workers), chosen.choice((0.3, 1.0, 12.0))
        case "request":
            return chosen.choice(REQUESTS), chosen.choice(MODES)
        case "database":
            return chosen.choice(tuple(DATABASE_FAILURES)), chosen.choice((0.05, 0.5, 3.0, 20.0))
        case "kafka":
            return (chosen.choice((0.05, 0.5, 3.0, 12.0)),)
        case "replay":
            return (chosen.random(),)
        case "clock":
            return chosen.choice(JUMPS), chosen.choice(("", "", "replay"))
    return ()


class Faults:
    """Strikes when a fault's step has come."""

    def __init__(self, schedule: "Schedule", plan: tuple[Fault, ...]) -> None:
        self._schedule, self._plan, self._next = schedule, plan, 0
        self.last = 0.0  # virtual time at which the last one ended
        self.pending_restart = 0
        self._watch: Watch | None = None

    def arm(self, watch: Watch | None) -> None:
        """Be called by the loop when the next fault is due; before every callback if somebody watches."""
        loop = self._schedule.world.loop
        self._watch, loop.before_step = watch, self._before_step
        loop.next_fault = self._due()

    def _due(self) -> int:
        if self._watch is not None:
            return 0
        return self._plan[self._next].step if self._next < len(self._plan) else 1 << 60

    def _before_step(self, handle: Handle) -> None:
        loop = self._schedule.world.loop
        while self._next < len(self._plan) and self._plan[self._next].step <= loop.step:
            fault = self._plan[self._next]
            self._next += 1
            self.strike(fault)
        loop.next_fault = self._due()
        if self._watch is not None:
            self._watch(handle, self._schedule)

    def strike(self, fault: Fault) -> None:
        """Do it."""
        world = self._schedule.world
        world.note("FAULT", str(fault))
        if fault.kind != "request":
            world.count(fault.kind)
        self.last = max(self.last, world.loop.now)
        getattr(self, f"_{fault.kind}")(*fault.args)

    def _worker(self, slot: int) -> Worker | None:
        return self._schedule.workers[slot]

    def _crash(self, slot: int, under_way: str = "") -> None:
        """kill -9. What is `under_way` to a server then "arrives" or is "lost"; chance decides when it is neither."""
        worker = self._worker(slot)
        if worker is not None:
            self._kill(slot, worker, under_way)
            self._restart(slot, self._schedule.world.random.random() * 2)

    def _kill(self, slot: int, worker: Worker, under_way: str = "") -> None:
        life, schedule = worker.life, self._schedule
        life.dead = True
        schedule.workers[slot] = None
        for link in list(life.links):
            link.close(under_way)
        schedule.world.loop.bury(life)
        schedule.world.later(SESSION_SECONDS, schedule.servers.group.leave, life)

    def _restart(self, slot: int, seconds: float) -> None:
        self.pending_restart += 1

        def start() -> None:
            self.pending_restart -= 1
            self._schedule.start(slot)
            self._schedule.look()

        self._schedule.world.later(seconds, start)

    def _letting_go(self, request: tuple[str, ...]) -> None:
        self._schedule.world.letting_go += zip(request[::2], request[1::2], strict=True)

    def _stop(self, slot: int, *request: str) -> None:
        worker = self._worker(slot)
        if worker is not None:
            self._letting_go(request)
            worker.stopping.set()

    def _pause(self, slot: int, seconds: float) -> None:
        """SIGSTOP, or a machine that is overloaded: for less than the session lasts."""
        worker, world = self._worker(slot), self._schedule.world
        if worker is not None and worker.life.parked is None:
            worker.life.parked = []
            self.last = max(self.last, world.loop.now + seconds)
            world.later(seconds, world.loop.wake, worker.life)

    def _zombie(self, slot: int, seconds: float, then: str = "") -> None:
        """SIGSTOP for longer than the session lasts: somebody else goes on meanwhile, then this one does as well.

        `then` "replay": everything is replayed once it has joined again, which shows the states it left behind.
        """
        worker, group = self._worker(slot), self._schedule.servers.group
        if worker is not None and worker.life.parked is None:
            self._pause(slot, seconds)
            self._schedule.world.later(group.session_left(worker.life), group.leave, worker.life)
            if then == "replay":
                self._after(seconds + REBALANCE_SECONDS, self._replay, 0.0)

    def _expel(self, slot: int, seconds: float, tries: int = 40) -> None:
        """The coordinator puts a member out before its session is over, and the member learns of this at once.

        The answer to a heartbeat that the member sent just before comes so many seconds after that. The fault
        happens when nothing that the worker has written is under way: that would arrive, and is no fault of the worker.
        """
        worker, world = self._worker(slot), self._schedule.world
        group = self._schedule.servers.group
        if worker is None or worker.life.parked is not None or not group.is_at_work(worker.life):
            return
        if any(link.writes for link in worker.life.links):
            if tries:
                self._after(0.05, self._expel, slot, seconds, tries - 1)
            return
        lease, asked = worker.lease, world.loop.now
        group.leave(worker.life)
        lease.end()
        self._after(seconds, lambda: None if worker.life.dead else lease.renew(asked))

    def _after(self, seconds: float, do: Callable[..., None], *args: Any) -> None:
        """A fault that follows from another; until then the schedule goes on."""
        self.pending_restart += 1

        def strike() -> None:
            self.pending_restart -= 1
            self.last = self._schedule.world.loop.now
            do(*args)
            self._schedule.look()

        self.last = max(self.last, self._schedule.world.loop.now + seconds)
        self._schedule.world.later(seconds, strike)

    def _anew(self, chance: float) -> None:
        """The input topic is deleted, and made anew after a while."""
        kafka = self._schedule.servers.kafka
        kafka.delete_input()

        def make() -> None:
            kafka.make_input_anew(forget=chance < 0.5)
            self._schedule.look()

        self._after(ANEW_SECONDS, make)

    def _changelog(self, chance: float) -> None:
        self._schedule.servers.kafka.make_changelog_anew()
        self._schedule.promises.forget_states()
        self._after(1.0, self._look_for_states, MOVED_SECONDS)

    def _look_for_states(self, left: int) -> None:
        schedule = self._schedule
        if schedule.promises.states_are_there():
            schedule.look()
            return
        ensure(left > 0, "P1 the changelog that was made anew has not got the states there are")
        self._after(1.0, self._look_for_states, left - 1)

    def _poison(self, chance: float) -> None:
        """Somebody writes what is no state, behind the last one of a device or of the mark."""
        kafka = self._schedule.servers.kafka
        partition = int(chance * kafka.partitions)
        keys = [f"u{partition}/d0".encode(), f"u{partition}/d1".encode(), MARK_KEY]
        for number, key in enumerate(keys):
            value = POISON[int(chance * 1000 + number) % len(POISON)]
            kafka.append(CHANGELOG, partition, [LogRecord(0, key, value, by=SOMEBODY)])

    def _rebalance(self, *request: str) -> None:
        self._letting_go(request)
        self._schedule.servers.group.prepare()

    def _again(self, *request: str) -> None:
        """A rebalance, and another one before the states of the first are recovered."""
        self._schedule.world.upon_recovery.append(self._schedule.servers.group.prepare)
        self._rebalance(*request)

    def _late(self, slot: int, seconds: float) -> None:
        """What the client's thread does next reaches the loop late: a poll may return after a rebalance."""
        worker = self._worker(slot)
        if worker is not None and hasattr(worker, "consumer"):
            worker.consumer.late = seconds
            self.last = max(self.last, self._schedule.world.loop.now + seconds)

    def _gap(self, slot: int) -> None:
        worker = self._worker(slot)
        if worker is not None and hasattr(worker, "consumer"):
            worker.consumer.lose_next = True

    def _request(self, what: str, mode: str) -> None:
        self._schedule.world.armed.append((what, mode))

    def _database(self, failure: str, seconds: float) -> None:
        self._outage("database", DATABASE_FAILURES[failure](failure), seconds)

    def _kafka(self, seconds: float) -> None:
        world = self._schedule.world
        self._outage("kafka", world.random.choice(world.kafka_outages)("no broker answers"), seconds)

    def _outage(self, server: str, error: Exception, seconds: float) -> None:
        world = self._schedule.world
        world.down[server] = error
        self.last = max(self.last, world.loop.now + seconds)

        def over() -> None:
            if world.down.get(server) is error:
                del world.down[server]

        world.later(seconds, over)

    def _clock(self, seconds: float, then: str) -> None:
        """The clocks of all workers jump, as if everything happened so much earlier or later; then a replay, or not."""
        if not self._schedule.shape.watched:  # inactivity goes by the workers' clocks, which wait for a jump to pass
            self._schedule.world.off += seconds
        if then == "replay":
            self._replay(0.0)

    def _replay(self, share: float) -> None:
        """Everybody is stopped, the committed offsets are put back, everybody starts again."""
        schedule = self._schedule
        for slot, worker in enumerate(schedule.workers):
            if worker is not None:
                self._kill(slot, worker)
                schedule.servers.group.leave(worker.life)
            self._restart(slot, schedule.world.random.random())
        for partition, offset in schedule.servers.kafka.committed.items():
            schedule.servers.kafka.committed[partition] = int(offset * share)
