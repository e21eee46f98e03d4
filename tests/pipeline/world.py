"""What a worker's ports reach, in memory: it outlives the worker, which can die before any step of any port.

Every port asks `tick` before and after each effect that a real one makes durable by itself: one dead letter, one
alert, one key of a state, one transaction, one ack, one commit. A test says at which tick the process dies.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.core.batch.batch import Batch
from app.core.batch.copy_policy import PartitionEpoch
from app.core.batch.effects import Effect, WriteResult
from app.core.batch.output import BatchOutput, Forward
from app.core.model.records import Record, Rejected, Row
from app.core.model.reply import Reply
from app.core.processing.processor import Processor
from app.pipeline.partition_queue import CoalesceLimit
from app.pipeline.pipeline import Pipeline
from app.ports import Ports, Seconds, Unlimited
from tests.fakes import FakeStore


class Crash(BaseException):
    """The process is gone: nothing after it has an effect."""


ABORT = "abort"  # in a list of batches: the process dies there

Tick = Callable[[str], Awaitable[None]]


class Life:
    """A process. Dies at tick `end` (None: never), and every port of it with it."""

    def __init__(self, end: int | None = None) -> None:
        self.end, self.ticks, self.dead = end, 0, False
        self.trace: list[str] = []

    async def tick(self, what: str) -> None:
        await asyncio.sleep(0)
        if self.dead or self.ticks == self.end:
            self.dead = True
            raise Crash(what)
        self.ticks += 1
        self.trace.append(what)


@dataclass
class World:
    """What survives a crash."""

    store: FakeStore = field(default_factory=FakeStore)
    letters: list[tuple[int, int, str]] = field(default_factory=list)  # (partition, offset, reason)
    alerts: list[tuple[bytes, bytes]] = field(default_factory=list)
    answers: list[Reply] = field(default_factory=list)
    states: dict[tuple[int, bytes], bytes] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)
    stored: int = 0  # rows the store called new

    def load(self, partition: int, key: bytes) -> bytes | None:
        return self.states.get((partition, key))


class MemoryBatch:
    """A batch whose ack commits at once: the prefix rule is the transport's, and tested there."""

    def __init__(self, world: World, tick: Tick, partition: int, records: Sequence[Record], epoch: int = 1) -> None:
        self.topic, self.partition, self.records, self.epoch = "iot-stream", partition, records, epoch
        self.first_offset, self.next_offset = records[0].offset, records[-1].offset + 1
        self.stale = self.acked = False
        self._world, self._tick = world, tick

    def current(self) -> bool:
        return not self.stale

    async def ack(self) -> None:
        await self._tick(f"ack {self.partition}")
        self.acked = True
        await self._tick(f"commit {self.partition}")
        self._world.committed[self.partition] = self.next_offset


class ListSource:
    """Batches from a list; ABORT in it crashes there."""

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = items

    async def batches(self) -> AsyncIterator[Batch]:
        for item in self._items:
            await asyncio.sleep(0)
            if item is ABORT:
                raise Crash(ABORT)
            yield item


class MemoryStore:
    def __init__(self, world: World, tick: Tick) -> None:
        self._world, self._tick = world, tick

    async def write(
        self, rows: Sequence[Row], effects: Sequence[Effect] = (), origin: PartitionEpoch | None = None
    ) -> WriteResult:
        await self._tick("store")
        written = await self._world.store.write(rows, effects, origin)
        self._world.stored += written.rows
        await self._tick("stored")
        return written


class MemoryDeadLetters:
    """Like the real dead letters: what the topic already holds of a record is not sent again."""

    def __init__(self, world: World, tick: Tick) -> None:
        self._world, self._tick = world, tick

    async def send(self, batch: Batch, rejected: Sequence[Rejected]) -> None:
        await self._tick("dead letters")
        for one in rejected:
            letter = (batch.partition, one.record.offset, str(one.reason))
            if letter not in self._world.letters:
                await self._tick("dead letter")
                self._world.letters.append(letter)


class MemoryOutbox:
    def __init__(self, world: World, tick: Tick) -> None:
        self._world, self._tick = world, tick

    async def send(
        self, events: Sequence[tuple[bytes, bytes]], answers: Sequence[Reply] = (), forwards: Sequence[Forward] = ()
    ) -> None:
        await self._tick("outbox")
        for event in events:
            await self._tick("alert")
            self._world.alerts.append(event)
        self._world.answers.extend(answers)


class MemoryStates:
    """A changelog takes one key after another: a crash leaves the first keys written."""

    def __init__(self, world: World, tick: Tick) -> None:
        self._world, self._tick = world, tick

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self._world.load(partition, key)

    async def put(self, states: Mapping[int, Mapping[bytes, bytes]]) -> None:
        await self._tick("states")
        for partition, of_it in states.items():
            for key, value in of_it.items():
                await self._tick("state")
                self._world.states[partition, key] = value


@dataclass
class MemoryLedger:
    done: list[Batch] = field(default_factory=list)
    given_up: list[tuple[Batch, str]] = field(default_factory=list)
    books: dict[str, int] = field(default_factory=dict)

    def batch_done(self, batch: Batch, work: BatchOutput, written: WriteResult, seconds: Seconds) -> None:
        assert min(seconds.process, seconds.wait, seconds.store, seconds.finish) >= 0
        self.done.append(batch)

    def batch_given_up(self, batch: Batch, reason: str) -> None:
        self.given_up.append((batch, reason))


AtOneGo = Callable[[Any, float], BatchOutput]


class InOneSlice:
    """A Process that pauses once, after its work: what comes in between finds the batch processed and not started."""

    def __init__(self, process: AtOneGo) -> None:
        self._process = process

    def run_sliced(self, batch: Any, now: float) -> Generator[None, None, BatchOutput]:
        work = self._process(batch, now)
        yield
        return work

    def closed(self, batch: Batch) -> None:
        if isinstance(self._process, Processor):
            self._process.closed(batch)


class Worker:
    """A pipeline over a world, for one life. Replace a port in `ports` before `run`."""

    def __init__(
        self,
        world: World,
        life: Life,
        process: AtOneGo,
        slots: int = 4,
        most: CoalesceLimit | None = None,
        **ports: Any,
    ) -> None:
        self.world, self.life, self.interrupt = world, life, asyncio.Event()
        world.store.interrupt = self.interrupt
        self.ledger = MemoryLedger()
        chosen: dict[str, Any] = {
            "store": MemoryStore(world, life.tick),
            "dead_letters": MemoryDeadLetters(world, life.tick),
            "outbox": MemoryOutbox(world, life.tick),
            "states": MemoryStates(world, life.tick),
            "ledger": self.ledger,
            "lease": Unlimited(),
        } | ports
        self.pipeline = Pipeline(Ports(**chosen), InOneSlice(process), slots, self.interrupt, most)

    async def run(self, items: Sequence[Any]) -> None:
        await self.pipeline.run(ListSource(items))
