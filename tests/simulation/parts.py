"""The pieces a simulated worker is made of, and what stands in for RocksDB."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from faust.types import TP

from app.core.deadletters.limit import DeadLetterLimit
from app.core.state.changelog import newest
from app.kafka.producer import Producer
from app.kafka.session_lease import SessionLease
from app.postgres.store.store import TimescaleStore
from app.stream.log_book import LogBook
from app.tables.device_table import FaustStates
from app.tables.events import NoStateEvents
from app.worker.parts import PartClasses
from tests.simulation.consumer import SimConsumer
from tests.simulation.kafka import CHANGELOG, LogRecord


class Disk:
    """RocksDB: what a worker has of each partition's states, and up to which changelog offset."""

    def __init__(self) -> None:
        self.states: dict[int, dict[bytes, bytes]] = {}
        self.offsets: dict[int, int] = {}
        self.superseded: dict[int, set[bytes]] = {}  # of the process, so forgotten with it
        self.homeless: set[int] = set()  # too
        self.identities: dict[int, str] = {}  # of the changelog that has all of a partition's states

    def read(self, partition: int, key: bytes) -> bytes | None:
        return self.states.get(partition, {}).get(key)

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        return iter(list(self.states.get(partition, {}).items()))

    def write(self, partition: int, states: Mapping[bytes, bytes | None], offset: int | None) -> None:
        there = self.states.setdefault(partition, {})
        for key, value in states.items():
            assert value is not None, "nobody deletes states"
            there[key] = value
        if offset is not None:
            self.offsets[partition] = offset

    def persisted_offset(self, tp: TP) -> int | None:
        return self.offsets.get(tp.partition)

    def place(self, partition: int, end: int, identity: str) -> int:
        """As StateStore.place does it."""
        known, offset = self.identities.setdefault(partition, identity), self.offsets.get(partition)
        if known != identity or (offset is not None and offset >= end):
            self.homeless.add(partition)
            self.identities[partition] = "?"
            self.offsets.pop(partition, None)
            return 0
        return 0 if offset is None else offset + 1

    def held(self, partition: int, identity: str, offset: int | None = None) -> None:
        """As StateStore.held does it."""
        self.identities[partition] = identity
        self.homeless.discard(partition)
        if offset is not None:
            self.offsets[partition] = offset


class SimStates(FaustStates):
    """The real get and put, on this disk."""

    def __init__(self, disk: Disk, sender: Producer) -> None:
        self.changelog, self._producer, self._disk, self._foreign = CHANGELOG, sender, disk, set()
        self._writing, self._events, self.identity, self.begun_anew = asyncio.Lock(), NoStateEvents(), "", set()

    @property
    def _store(self) -> Any:
        return self._disk

    def recover(self, partition: int, records: Sequence[LogRecord]) -> None:
        """As StateStore.apply_changelog_batch does it."""
        pairs = [(record.key or b"", record.value) for record in records]
        overtaken = self._disk.superseded.setdefault(partition, set())
        states = newest(pairs, lambda key: self.get(partition, key), overtaken)
        self._disk.write(partition, states, records[-1].offset)


class LimitOfMany(DeadLetterLimit):
    """A second user is always known: no user's dead letters may stop the worker."""

    def __init__(self, row: int, ratio: float, window: int, user_share: float, users: object) -> None:
        super().__init__(row, ratio, window, user_share, lambda: ["u0", "u1"])


class Parts(PartClasses):
    """What a worker is made of; a test of the simulator replaces one by one with a bug in it."""

    limit: type[DeadLetterLimit] = LimitOfMany
    states: type[SimStates] = SimStates
    store: type[TimescaleStore] = TimescaleStore
    consumer: Any = SimConsumer
    lease: type[SessionLease] = SessionLease
    producer: type[Producer] = Producer
    logs: type[LogBook] = LogBook
    zombies_write = False  # what a worker writes after it has lost its partitions breaks no promise by itself


class NeverEnds(SessionLease):
    """No lease."""

    def valid(self) -> bool:
        return True


class Unleased(Parts):
    """As if every stall fell between asking for the lease and writing: what zombies write does no lasting harm."""

    lease = NeverEnds
    zombies_write = True
