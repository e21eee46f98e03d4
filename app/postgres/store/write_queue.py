"""Writes that wait for a lane: each is tried until stored, or interrupted; small live writes share a transaction.

In order: `write` waits, `_dispatch` gives a group that shares a transaction to a free lane, `_hold` tries until the
group is stored, `_try` is one transaction (session.py), whose content the policy (LiveWrites, LateWrites) decides.
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from app.core.batch.copy_policy import PartitionEpoch
from app.core.batch.effects import Effect, WriteResult
from app.core.model.records import Row
from app.errors import TransientError
from app.postgres.circuit_breaker import Breaker, BreakerState
from app.postgres.events import StoreEvents
from app.postgres.operator_advice import Advice
from app.postgres.sqlstate import DATABASE_ERRORS
from app.postgres.store.late_horizon import LateHorizon
from app.postgres.store.session import Lane, WriteSession
from app.runtime.interrupt import Interrupt
from app.runtime.retry import delay
from app.runtime.tracing.tracing import CURRENT

# While transactions follow one another this closely, a small write waits a little for others to share one with.
BUSY_SECONDS, SHARE_SECONDS, SMALL_ROWS = 0.006, 0.002, 100
BACKOFF_FIRST, BACKOFF_MAX = 0.1, 1.6  # seconds between the tries of one write, while the breaker is closed


class PendingWrite:
    """Rows and effects, where they come from, and the answer once given.

    `written` are the answers to the first pieces of the write; `tried`: an attempt to store it was made.
    """

    def __init__(
        self, rows: Sequence[Row], effects: Sequence[Effect] = (), origin: PartitionEpoch | None = None
    ) -> None:
        self.rows, self.effects, self.origin = rows, effects, origin
        self.tried = False
        self.span = CURRENT.get()
        self.written: list[WriteResult] = []
        self.answer: asyncio.Future[WriteResult] = asyncio.get_running_loop().create_future()

    def settle(self, written: WriteResult) -> None:
        """Give the answer, unless nobody waits for the answer any more."""
        if not self.answer.done():
            self.answer.set_result(written)

    def fail(self, error: BaseException) -> None:
        """Raise the error where the answer is awaited."""
        if not self.answer.done():
            self.answer.set_exception(error)


class WritePolicy(Protocol):
    """What is done with the writes of a queue."""

    part: str  # the queue's name in /ready and in the log

    def take(self, waiting: deque[PendingWrite]) -> list[PendingWrite]:
        """Take what shares a transaction, leaving out what nobody waits for."""

    async def store(self, session: WriteSession, group: Sequence[PendingWrite]) -> int:
        """Carry out one transaction for the group, settle what is complete, return its rows.

        Raises DATABASE_ERRORS: what is not settled by then is not stored.
        """

    def outage(self, error: BaseException) -> bool:
        """Whether this failure is the database's, and not the fault of what was written."""


class StoreContext(NamedTuple):
    """What all queues of a store have in common."""

    breaker: Breaker
    interrupt: Interrupt
    horizon: LateHorizon
    advice: Advice
    events: StoreEvents


class WriteQueue:
    """Writes that wait for one of the lanes: as many transactions at a time as there are lanes."""

    def __init__(self, lanes: Sequence[Lane], work: WritePolicy, shared: StoreContext) -> None:
        self._lanes, self._free, self._work, self._shared = lanes, list(lanes), work, shared
        self._waiting: deque[PendingWrite] = deque()
        self._running: dict[asyncio.Task[None], list[PendingWrite]] = {}
        self._timer: asyncio.Handle | None = None  # of the next dispatch
        self._dispatched = 0.0  # when the last dispatch was (loop's time)

    async def write(
        self, rows: Sequence[Row], effects: Sequence[Effect] = (), origin: PartitionEpoch | None = None
    ) -> WriteResult:
        """Store rows and effects. Raises TransientError when interrupted before the write's last transaction."""
        pending = PendingWrite(rows, effects, origin)
        self._waiting.append(pending)
        if self._timer is None:
            self._timer = self._dispatch_soon(len(rows))
        try:
            await self._shared.interrupt.first_of(pending.answer)
            if not pending.answer.done() and pending in self._waiting:
                raise TransientError("interrupted before the write began")
            return await pending.answer
        finally:
            pending.answer.cancel()

    async def stop(self, seconds: float) -> None:
        """Let running transactions end for up to `seconds`, close the connections; the interrupt must be set."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        for lane in [lane for lane in self._lanes if lane not in self._free]:
            lane.drop()  # fails what still runs there
        if self._running:
            await asyncio.wait(self._running)
        await asyncio.gather(*(lane.close() for lane in self._lanes))
        if self._timer:
            self._timer.cancel()
            self._timer = None  # the queue may be started again

    def _dispatch_soon(self, rows: int) -> asyncio.Handle:
        """Dispatch at the end of this turn of the loop at the earliest: all writes of the turn can share."""
        loop = asyncio.get_running_loop()
        if rows >= SMALL_ROWS or loop.time() - self._dispatched > BUSY_SECONDS:
            return loop.call_soon(self._dispatch)
        return loop.call_later(SHARE_SECONDS, self._dispatch)

    def _dispatch(self) -> None:
        self._timer = None
        self._dispatched = asyncio.get_running_loop().time()
        while self._free and (group := self._work.take(self._waiting)):
            lane = self._free.pop()
            task = asyncio.create_task(self._hold(lane, group))
            self._running[task] = group
            task.add_done_callback(functools.partial(self._ended, lane))

    def _ended(self, lane: Lane, task: asyncio.Task[None]) -> None:
        group = self._running.pop(task)
        error = TransientError("the store was stopped") if task.cancelled() else task.exception()
        for pending in group:
            if error:
                pending.fail(error)
        self._free.append(lane)
        if self._timer is None:
            self._dispatch()
        if not self._running:
            self._shared.advice.settled(self._work.part)  # interrupted, or stored: nothing of the write is held here

    async def _hold(self, lane: Lane, group: list[PendingWrite]) -> None:
        """Try until the group is stored or not waited for any more, or the store is interrupted (TransientError)."""
        CURRENT.set(group[0].span)  # the span that failures belong to; a task starts with its maker's
        failures = 0
        while any(not pending.answer.done() for pending in group):
            try:
                await self._try(lane, group)
            except DATABASE_ERRORS:
                if self._shared.breaker.state is not BreakerState.OPEN:  # else the next try waits for the breaker
                    await self._shared.interrupt.sleep(delay(failures, BACKOFF_FIRST, BACKOFF_MAX))
                    failures += 1
            else:
                failures = 0
                if self._shared.interrupt.is_set() and any(not pending.answer.done() for pending in group):
                    raise TransientError("interrupted between two transactions: the rest is not stored")

    async def _try(self, lane: Lane, group: list[PendingWrite]) -> None:
        breaker, shared = self._shared.breaker, self._shared
        await breaker.enter(shared.interrupt)
        wanted = [pending for pending in group if not pending.answer.done()]
        if not wanted:
            breaker.abandoned()
            return
        if breaker.state is BreakerState.HALF_OPEN:
            wanted = wanted[:1]  # one batch, not all batches that would share its transaction
        started = time.perf_counter()
        try:
            session = lane.session
            # A session that was idle in an outage may be dead without knowing it, and would open the circuit again.
            if session is None or session.connection.is_closed() or breaker.state is BreakerState.HALF_OPEN:
                lane.drop()
                session = await shared.interrupt.race(lane.open())
            with lane.deadline():
                await shared.horizon.refresh(session.connection)
            await session.lease.ensure()  # the write may have waited for long
            with lane.deadline():
                rows = await self._work.store(session, wanted)
        except DATABASE_ERRORS as error:
            lane.drop()
            self._failed(error)
            raise
        except (TransientError, asyncio.CancelledError):
            lane.drop()
            breaker.abandoned()
            raise
        breaker.succeeded()
        shared.events.write_finished(time.perf_counter() - started, rows)
        shared.advice.settled(self._work.part)

    def _failed(self, error: BaseException) -> None:
        shared = self._shared
        shared.advice.failed(self._work.part, error)
        if self._work.outage(error):
            shared.breaker.failed(error)
        else:
            shared.breaker.answered()
