"""THE PATH of a batch, on one screen. The steps are numbered alike here, in the README and in the tests.

Batches of different partitions overlap: one is decoded while the database writes others. Batches of one partition are
stored one after another, and closed (steps 5 to 7) in the same order, so that its rows, alerts and states come in order
and its offset moves in order; what arrives while a batch is stored and the next decoded is joined (partition_queue.py).
Batches of all partitions are closed together (finalizer.py).
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from app.core.batch.batch import Batch
from app.core.batch.books import books
from app.core.batch.copy_policy import PartitionEpoch
from app.core.batch.output import BatchOutput
from app.errors import TransientError
from app.pipeline.finalizer import Finalizer, StoredBatch
from app.pipeline.partition_queue import CoalesceLimit, PartitionQueue, PartitionQueues, StoreOutcome, is_stored
from app.ports import Ports, Process, Seconds, Source

T = TypeVar("T")


class Pipeline:
    """Takes batches until the source ends; at most `slots` of them are between steps 2 and 4."""

    def __init__(
        self, ports: Ports, process: Process, slots: int, interrupt: asyncio.Event, most: CoalesceLimit | None = None
    ) -> None:
        """`interrupt` ends every wait of the ports; `most`: how much of a partition is joined into one batch."""
        self._ports, self._process, self._interrupt = ports, process, interrupt
        self._slots, self._turn = asyncio.Semaphore(slots), asyncio.Lock()
        self._queues = PartitionQueues(most or CoalesceLimit())
        self._finalizer = Finalizer(self._close, self._spawn, ports.ledger.batch_given_up)
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, source: Source) -> None:
        """Work until the source ends or something unexpected happens, which is raised with all offsets un-acked."""
        try:
            async with asyncio.TaskGroup() as self._group:
                async for batch in source.batches():  # 1 take: one partition, offset order
                    self._ports.tracing.taken(batch)
                    queue = self._queues.put(batch)
                    if queue.idle:
                        queue.processing = self._spawn(self._process_waiting(queue))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _process_waiting(self, queue: PartitionQueue) -> None:
        """Step 2 of a partition's batches, one ahead of the batch that is stored; what comes meanwhile is joined."""
        while queue and await self._holds_partitions():
            await self._finalizer.room(queue.partition)
            previous, batch = queue.storing, queue.take()
            storing: asyncio.Task[StoreOutcome] | None = None
            await self._slots.acquire()
            try:
                async with self._turn:
                    begin = time.perf_counter()
                    work = await self._processed(batch) if batch.current() else None  # 2 decode, step rules: pure
                if work and batch.current():
                    seconds = Seconds(process=time.perf_counter() - begin)
                    if work.left_over:  # it alerts too much for one batch: the rest is the next
                        batch = queue.leave_over(batch, work.left_over)
                    self._ports.tracing.processed(batch, work, seconds.process)
                    storing = queue.storing = self._spawn(self._store(batch, work, previous, seconds))
                    storing.add_done_callback(lambda _: self._slots.release())
            finally:
                if storing is None:  # a rebalance came: the batch comes again; its epoch's steps are forgotten
                    self._slots.release()
            if previous and not previous.done():
                await asyncio.wait({previous})

    async def _store(
        self, batch: Batch, work: BatchOutput, previous: asyncio.Task[StoreOutcome] | None, seconds: Seconds
    ) -> StoreOutcome:
        """Steps 3 and 4, after the same steps of the `previous` batch of the same partition."""
        ports, clock = self._ports, time.perf_counter
        try:
            start = clock()
            await self._follow(previous)
            begin = clock()
            await ports.dead_letters.send(batch, work.rejected)  # 3 acked by Kafka
            await ports.lease.ensure()  # a stalled worker leaves the rest to the new owner; steps 3, 5 and 6 ask too
            ports.tracing.storing(batch, work)
            origin = PartitionEpoch(batch.partition, batch.epoch)
            written = await ports.store.write(work.rows, work.effects + work.alert_effects, origin)  # 4 one transaction
            ports.tracing.stored(batch, written)
            refused = work.refusals(written.refused, written.refused_effects)
            await ports.dead_letters.send(batch, refused)  # 4a what the database refused, alone
            books(batch.records, work, written)  # 4b every record is accounted for once, or nothing is acknowledged
            seconds.wait, seconds.store = begin - start, clock() - begin
            self._finalizer.add(StoredBatch(batch, work, written, seconds, clock()))
        except TransientError as error:  # interrupted: the offset stays, the batch comes again
            ports.ledger.batch_given_up(batch, str(error))
            return StoreOutcome.INTERRUPTED
        return StoreOutcome.STORED

    async def _close(self, together: list[StoredBatch]) -> None:
        """Steps 5 to 7 of all partitions at once: each costs one request to Kafka, however many batches it is for."""
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

    async def _holds_partitions(self) -> bool:
        """Wait until the partitions are surely ours; False when interrupted first: then the whole batch comes again."""
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

    async def _follow(self, previous: asyncio.Task[StoreOutcome] | None) -> None:
        """Wait until the batch before this one of the same partition is stored; TransientError when it was not.

        A batch that waits has no slot: one partition that is slow would take all slots with its small batches.
        """
        if previous is None:
            return
        if not previous.done():
            self._slots.release()
            try:
                await asyncio.wait({previous})
            finally:
                await self._slots.acquire()
        if not is_stored(previous):
            raise TransientError("the batch before this batch was not done")

    def _spawn(self, steps: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._group.create_task(steps)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def drain(self, seconds: float) -> None:
        """Before a rebalance or stop: interrupt waits for outages at once, let writes end, cancel what is left."""
        self._interrupt.set()
        self._finalizer.hurry()
        deadline = time.monotonic() + seconds
        try:
            while self._running and (left := deadline - time.monotonic()) > 0:
                await asyncio.wait(self._running, timeout=left)
            stuck = list(self._running)
            for task in stuck:
                task.cancel()
            if stuck:
                await asyncio.wait(stuck)
            self._finalizer.forget()
            self._queues.clear()
        finally:
            self._interrupt.clear()

    @property
    def in_work(self) -> int:
        """Tasks that carry batches through steps 3 to 7."""
        return len(self._running - {queue.processing for queue in self._queues})
