"""Time, chance and the journal of a schedule, and what all its servers and processes share."""

from collections.abc import Callable
from random import Random
from typing import Any

import asyncpg
from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError

from tests.simulation.life import SERVERS
from tests.simulation.loop import SimLoop

EPOCH = 1_795_230_000.0  # what the wall clock says when the virtual clock says 0

# What an outage of the database looks like, one of each class that must be waited out.
DATABASE_FAILURES: dict[str, type[Exception]] = {
    "reset": ConnectionResetError,
    "shutdown": asyncpg.exceptions.AdminShutdownError,
    "deadlock": asyncpg.exceptions.DeadlockDetectedError,
    "full disk": asyncpg.exceptions.DiskFullError,
    "read-only": asyncpg.exceptions.ReadOnlySQLTransactionError,
    "no table": asyncpg.exceptions.UndefinedTableError,
    "timeout": TimeoutError,
}


class World:
    """The world of a schedule."""

    def __init__(self, seed: str, *, shuffled: bool) -> None:
        self.random = Random(seed)
        order = Random(f"{seed} order").random if shuffled else None
        self.loop = SimLoop(order)  # type: ignore[abstract]  # what is missing, the simulation does not use
        self.journal: list[tuple[float, str, str]] = []
        self.latency = {server: self.random.choice((0.01, 0.01, 0.1)) for server in ("kafka", "database")}
        self.off = 0.0  # by how many seconds the workers' clocks are ahead
        self.down: dict[str, Exception] = {}  # server -> what it answers during its outage
        self.armed: list[tuple[str, str]] = []  # (first letters of a request, what becomes of the next such)
        self.letting_go: list[tuple[str, str]] = []  # the same, for the first worker that lets go of its partitions
        self.upon_recovery: list[Callable[[], None]] = []  # what happens when a worker next recovers its states
        self.injected: dict[str, int] = {}
        self.changes: list[int] = []  # the steps at which something durable or promised changed
        self.asked: set[int] = set()  # the steps at which a request was sent
        self.kafka_errors = (KafkaError, OSError)
        self.kafka_outages = (KafkaConnectionError, RequestTimedOutError)

    def note(self, who: str, what: str) -> None:
        """Write into the journal."""
        self.journal.append((round(self.loop.now, 6), who, what))
        if not self.changes or self.changes[-1] != self.loop.step:
            self.changes.append(self.loop.step)

    def count(self, kind: str) -> None:
        """A fault happened."""
        self.injected[kind] = self.injected.get(kind, 0) + 1

    def true(self) -> float:
        """Seconds since 1970, by the clocks of gateways and of Kafka."""
        return EPOCH + self.loop.now

    def wall(self) -> float:
        """The same by the clocks of the workers, which may be wrong."""
        return self.true() + self.off

    def later(self, seconds: float, call: Callable[..., Any], *args: Any) -> None:
        """Let the servers do something."""
        self.loop.call_at(self.loop.now + seconds, call, *args, context=SERVERS)

    def lets_go(self) -> None:
        """A worker does."""
        self.armed += self.letting_go
        self.letting_go.clear()

    def recovers(self) -> None:
        """A worker does: its rebalance has not ended yet."""
        for happens in self.upon_recovery:
            self.later(self.random.random() * self.latency["kafka"], happens)
        self.upon_recovery.clear()

    def fate(self, what: str) -> str:
        """What becomes of this request: "" for nothing special."""
        for index, (prefix, mode) in enumerate(self.armed):
            if what.startswith(prefix):
                del self.armed[index]
                self.count(f"{prefix} {mode}")
                return mode
        return ""
