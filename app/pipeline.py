"""THE PATH of a batch, on one screen. The steps are numbered alike here, in the README and in the tests.

Batches of different partitions overlap: one is decoded while the database writes others. Those of one partition
finish one after another, so that its rows, alerts and states come in order and its offset moves in order.
"""

import asyncio
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

from app.core.work import Work
from app.core.write import Written
from app.errors import TransientError
from app.ports import Batch, DeadLetters, Outbox, Source, States, Store

# Step 2, pure but for the working state it keeps: app.core.process.Processor.slices. `now` in seconds since 1970.
Process = Callable[[Batch, float], Generator[None, None, Work]]


class Ledger(Protocol):
    """Told of every batch that is done; counts and logs it."""

    def batch_done(self, batch: Batch, work: Work, written: Written, seconds: "Seconds") -> None: ...

    def batch_given_up(self, batch: Batch, reason: str) -> None: ...


@dataclass(slots=True)
class Seconds:
    """How long the stages of one batch took."""

    process: float = 0.0
    wait: float = 0.0
    store: float = 0.0
    finish: float = 0.0


@dataclass(frozen=True, slots=True)
class Ports:
    """What the path needs of the world."""

    store: Store
    dead_letters: DeadLetters
    outbox: Outbox
    states: States
    ledger: Ledger


class Pipeline:
    """Takes batches until the source ends; at most `slots` of them are between steps 2 and 7."""

    def __init__(self, ports: Ports, process: Process, slots: int, give_up: asyncio.Event) -> None:
        self._ports, self._process, self._give_up = ports, process, give_up
        self._slots = asyncio.Semaphore(slots)
        self._last: dict[tuple[int, int], asyncio.Task[None]] = {}  # by (epoch, partition)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, source: Source) -> None:
        """Work until the source ends or something unexpected happens, which is raised with all offsets un-acked."""
        try:
            async with asyncio.TaskGroup() as group:
                async for batch in source.batches():  # 1 take: one partition, offset order
                    await self._slots.acquire()
                    if not batch.current():  # a rebalance came while we waited
                        self._slots.release()
                        continue
                    started = time.perf_counter()
                    work = await self._processed(batch)  # 2 decode, validate, step rules and state: pure
                    seconds = Seconds(process=time.perf_counter() - started)
                    if batch.current():  # else it comes again, and what was stepped is forgotten with its epoch
                        self._start(group, batch, work, seconds)
                    else:
                        self._slots.release()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _processed(self, batch: Batch) -> Work:
        """Between slices the loop serves the connections: a write under way is not kept waiting for a whole batch."""
        steps = self._process(batch, time.time())
        while True:
            try:
                next(steps)
            except StopIteration as done:
                work: Work = done.value
                return work
            await asyncio.sleep(0)

    def _start(self, group: asyncio.TaskGroup, batch: Batch, work: Work, seconds: Seconds) -> None:
        key = (batch.epoch, batch.partition)
        if key not in self._last:  # a new epoch: what came before was drained, and is nobody's predecessor
            self._last = {k: task for k, task in self._last.items() if k[0] == batch.epoch}
        task = group.create_task(self._guarded(batch, work, self._last.get(key), seconds))
        self._last[key] = task
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._slots.release()

    async def _guarded(self, batch: Batch, work: Work, previous: asyncio.Task[None] | None, seconds: Seconds) -> None:
        try:
            await self._finish(batch, work, previous, seconds)
        except TransientError as error:  # told to give up: the offset stays, the batch comes again
            self._ports.ledger.batch_given_up(batch, str(error))
            raise asyncio.CancelledError from None

    async def _finish(self, batch: Batch, work: Work, previous: asyncio.Task[None] | None, seconds: Seconds) -> None:
        ports, clock = self._ports, time.perf_counter
        start = clock()
        await _follow(previous)
        begin = clock()
        await ports.dead_letters.send(batch, work.rejected)  # 3 acked by Kafka
        written = await ports.store.write(work.rows, work.effects)  # 4 one transaction
        refused = work.refusals(written.refused, written.refused_effects)
        await ports.dead_letters.send(batch, refused)  # 4a what the database refused, alone
        stored = clock()
        await ports.outbox.send(work.alerts)  # 5 acked by Kafka
        await ports.states.put(batch.partition, work.states)  # 6 acked by Kafka
        await batch.ack()  # 7 last, always
        seconds.wait, seconds.store, seconds.finish = begin - start, stored - begin, clock() - stored
        ports.ledger.batch_done(batch, work, written, seconds)

    async def drain(self, seconds: float) -> None:
        """Before a rebalance or stop: end waits for outages at once, let running writes end, cancel what is left."""
        self._give_up.set()
        try:
            if self._running:
                await asyncio.wait(self._running, timeout=seconds)
            left = list(self._running)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)
        finally:
            self._give_up.clear()

    @property
    def in_work(self) -> int:
        """Batches between steps 2 and 7."""
        return len(self._running)


async def _follow(previous: asyncio.Task[None] | None) -> None:
    """Wait for the batch before this one of the same partition. Raises TransientError when it was not acked."""
    if previous is None:
        return
    if not previous.done():
        await asyncio.wait({previous})
    if previous.cancelled() or previous.exception() is not None:
        raise TransientError("the batch before it was not done")
