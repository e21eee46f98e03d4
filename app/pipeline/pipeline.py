"""THE PATH of a batch, on one screen. The steps are numbered alike here, in the README and in the tests.

Batches of different partitions overlap: one is decoded while the database writes others. Those of one partition are
stored one after another, and closed (steps 5 to 7) in the same order, so that its rows, alerts and states come in order
and its offset moves in order; what arrives while one is stored and the next is decoded is joined (coalesce.py). Batches
of all partitions are closed together (finalizer.py).
"""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

from app.core.batch.batch import Batch
from app.core.batch.books import books
from app.core.batch.output import BatchOutput
from app.errors import TransientError
from app.pipeline.coalesce import CoalesceLimit, take
from app.pipeline.finalizer import Finalizer, StoredBatch
from app.ports import Ports, Process, Seconds, Source


class Pipeline:
    """Takes batches until the source ends; at most `slots` of them are between steps 2 and 4."""

    def __init__(
        self, ports: Ports, process: Process, slots: int, interrupt: asyncio.Event, most: CoalesceLimit | None = None
    ) -> None:
        self._ports, self._process, self._interrupt, self._most = ports, process, interrupt, most or CoalesceLimit()
        self._slots, self._turn = asyncio.Semaphore(slots), asyncio.Lock()
        # by (epoch, partition): what has arrived, who takes from it, and what was started last
        self._waiting: dict[tuple[int, int], deque[Batch]] = {}
        self._takers: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._last: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._closing = Finalizer(self._close, self._spawn, ports.ledger.batch_given_up)

    async def run(self, source: Source) -> None:
        """Work until the source ends or something unexpected happens, which is raised with all offsets un-acked."""
        try:
            async with asyncio.TaskGroup() as self._group:
                async for batch in source.batches():  # 1 take: one partition, offset order
                    self._arrived(batch)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _take(self, key: tuple[int, int]) -> None:
        """Step 2 of a partition's batches, one ahead of the one that is stored; what comes meanwhile is joined."""
        waiting = self._waiting[key]
        while waiting:
            if not await self._held():
                return
            previous = self._last.get(key)
            batch = take(waiting, self._most)
            await self._slots.acquire()
            started = False
            try:
                async with self._turn:
                    begin = time.perf_counter()
                    # 2 decode, validate, step rules and state: pure
                    work = await self._processed(batch) if batch.current() else None
                if work and batch.current():
                    self._start(key, batch, work, Seconds(process=time.perf_counter() - begin))
                    started = True
            finally:
                if not started:  # a rebalance came: it comes again, and what was stepped is forgotten with its epoch
                    self._slots.release()
            if previous and not previous.done():
                await asyncio.wait({previous})

    async def _store(
        self, batch: Batch, work: BatchOutput, previous: asyncio.Task[None] | None, seconds: Seconds
    ) -> None:
        ports, clock = self._ports, time.perf_counter
        start = clock()
        await self._follow(previous)
        begin = clock()
        await ports.dead_letters.send(batch, work.rejected)  # 3 acked by Kafka
        await ports.lease.ensure()  # a worker that was stalled leaves the rest to the new owner; steps 3, 5, 6 ask too
        written = await ports.store.write(work.rows, work.effects + work.alert_effects)  # 4 one transaction
        refused = work.refusals(written.refused, written.refused_effects)
        await ports.dead_letters.send(batch, refused)  # 4a what the database refused, alone
        books(batch.records, work, written)  # 4b every record is accounted for once, or nothing is acknowledged
        seconds.wait, seconds.store = begin - start, clock() - begin
        self._closing.add(StoredBatch(batch, work, written, seconds, clock()))

    async def _close(self, together: list[StoredBatch]) -> None:
        """Of all partitions at once: a step costs one request to Kafka, however many batches it is for."""
        ports = self._ports
        alerts = [alert for one in together for alert in one.work.alerts]
        answers = [answer for one in together for answer in one.work.answers]
        forwards = [forward for one in together for forward in one.work.forwards]
        await ports.outbox.send(alerts, answers, forwards)  # 5 acked by Kafka
        states: dict[int, dict[bytes, bytes]] = {}
        for one in together:
            states.setdefault(one.batch.partition, {}).update(one.work.states)
        await ports.states.put(states)  # 6 acked by Kafka
        for batch, work, written, seconds, stored_at in together:
            self._process.closed(batch)
            await batch.ack()  # 7 last, always
            seconds.finish = time.perf_counter() - stored_at
            ports.ledger.batch_done(batch, work, written, seconds)

    async def _held(self) -> bool:
        """Wait until the partitions are surely ours; False when told to give up: then all of it comes again."""
        try:
            await self._ports.lease.ensure()
        except TransientError:
            return False
        return True

    async def _processed(self, batch: Batch) -> BatchOutput:
        """Between slices the loop serves the connections: a write under way is not kept waiting for a whole batch."""
        steps = self._process.run_sliced(batch, time.time())
        while True:
            try:
                next(steps)
            except StopIteration as done:
                work: BatchOutput = done.value
                return work
            await asyncio.sleep(0)

    def _arrived(self, batch: Batch) -> None:
        key = (batch.epoch, batch.partition)
        if key not in self._waiting:  # a new epoch: what came before was drained, and is nobody's predecessor
            for old in [old for old in self._waiting if old[0] != batch.epoch]:
                del self._waiting[old]
                self._takers.pop(old, None)
                self._last.pop(old, None)
            self._waiting[key] = deque()
        self._waiting[key].append(batch)
        if key not in self._takers or self._takers[key].done():
            self._takers[key] = self._spawn(self._take(key))

    def _start(self, key: tuple[int, int], batch: Batch, work: BatchOutput, seconds: Seconds) -> None:
        task = self._spawn(self._guarded(batch, work, self._last.get(key), seconds))
        self._last[key] = task
        task.add_done_callback(lambda _: self._slots.release())

    async def _guarded(
        self, batch: Batch, work: BatchOutput, previous: asyncio.Task[None] | None, seconds: Seconds
    ) -> None:
        try:
            await self._store(batch, work, previous, seconds)
        except TransientError as error:  # told to give up: the offset stays, the batch comes again
            self._ports.ledger.batch_given_up(batch, str(error))
            raise asyncio.CancelledError from None

    async def _follow(self, previous: asyncio.Task[None] | None) -> None:
        """Wait until the batch before this one of the same partition is stored; TransientError when it was not.

        Whoever waits has no slot: one partition that is slow would take all of them with its small batches.
        """
        if previous is None:
            return
        if not previous.done():
            self._slots.release()
            try:
                await asyncio.wait({previous})
            finally:
                await self._slots.acquire()
        if previous.cancelled() or previous.exception() is not None:
            raise TransientError("the batch before it was not done")

    def _spawn(self, steps: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._group.create_task(steps)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def drain(self, seconds: float) -> None:
        """Before a rebalance or stop: end waits for outages at once, let running writes end, cancel what is left."""
        self._interrupt.set()
        self._closing.hurry()
        deadline = time.monotonic() + seconds
        try:
            while self._running and (left := deadline - time.monotonic()) > 0:
                await asyncio.wait(self._running, timeout=left)
            stuck = list(self._running)
            for task in stuck:
                task.cancel()
            if stuck:
                await asyncio.wait(stuck)
            self._closing.forget()
            self._waiting.clear()
        finally:
            self._interrupt.clear()

    @property
    def in_work(self) -> int:
        """Tasks that carry batches through steps 3 to 7."""
        return len(self._running - set(self._takers.values()))
