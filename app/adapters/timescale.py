"""The store: batches of rows in, each stored once and for good, with an answer counted by the database.

A write holds through every outage until it is stored or told to give up. At most `writes_in_flight` transactions
run at once, each on a connection of its own; writes that find none free wait, and small ones then share one.
"""

import asyncio
import functools
import random
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from app.adapters import group as groups
from app.adapters.breaker import Breaker, State
from app.adapters.group import Pending
from app.adapters.interrupt import Interrupt
from app.adapters.lane import Lane
from app.adapters.probe import Probe
from app.adapters.sqlstate import DATABASE_ERRORS, advice, words
from app.adapters.store_events import Silent, StoreEvents
from app.core.model import Row
from app.core.write import Effect, Written
from app.errors import TransientError
from app.settings import Settings

BACKOFF_FIRST, BACKOFF_MAX = 0.1, 1.6  # seconds between the tries of one write; the breaker's wait comes on top
REMIND_SECONDS = 60.0  # how often an operator is told the same thing


class TimescaleStore:
    """ports.Store on PostgreSQL, with or without TimescaleDB. While `give_up` is set, nothing waits for an outage."""

    def __init__(self, settings: Settings, give_up: asyncio.Event, events: StoreEvents | None = None) -> None:
        self._settings = settings
        self._give_up = give_up
        self._events: StoreEvents = events or Silent()
        self._interrupt = Interrupt(give_up)
        self._breaker = Breaker(
            settings.breaker_failures, settings.breaker_reset_min, settings.breaker_reset_max, self._events
        )
        self._waiting: deque[Pending] = deque()
        self._lanes = [Lane(settings) for _ in range(settings.writes_in_flight)]
        self._free = list(self._lanes)
        self._running: dict[asyncio.Task[None], list[Pending]] = {}
        self._probe = Probe(settings)
        self._told = ("", 0.0)
        self._signal: asyncio.Task[bool] | None = None
        self._stopped = False

    async def start(self) -> None:
        """Does not connect: the first write does, and waits if there is nobody yet."""
        self._stopped = False

    async def stop(self) -> None:
        """End all waiting, let running transactions end for up to shutdown_timeout, close the connections."""
        self._stopped = True
        self._give_up.set()
        if self._running:
            await asyncio.wait(self._running, timeout=self._settings.shutdown_timeout)
        for lane in set(self._lanes) - set(self._free):
            lane.drop()  # fails what still runs there
        if self._running:
            await asyncio.wait(self._running)
        await asyncio.gather(*(lane.close() for lane in self._lanes), self._probe.close())
        if self._signal:
            self._signal.cancel()

    async def ready(self) -> bool:
        """Whether the database answers within 2 s."""
        return await self._probe.answers()

    @property
    def breaker_state(self) -> State:
        """Where the circuit breaker stands."""
        return self._breaker.state

    async def write(self, rows: Sequence[Row], effects: Sequence[Effect] = ()) -> Written:
        """Store rows, and carry out effects after them in the same transaction; wait out an outage.

        Raises TransientError once `give_up` is set and the write is not in a transaction at that moment: then
        nothing of it is stored. When cancelled in a transaction, that one ends on its own.
        """
        if self._stopped:
            raise TransientError("the store is stopped")
        if not rows and not effects:
            return Written()
        pending = Pending(rows, effects)
        if not self._waiting:  # at the end of this turn of the loop: all who come in it can share
            asyncio.get_running_loop().call_soon(self._dispatch)
        self._waiting.append(pending)
        if self._signal is None or self._signal.done():
            self._signal = asyncio.ensure_future(self._give_up.wait())
        either: set[asyncio.Future[Any]] = {pending.answer, self._signal}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not pending.answer.done() and pending in self._waiting:
                raise TransientError("told to give up before the write began")
            return await pending.answer
        finally:
            pending.answer.cancel()

    def _dispatch(self) -> None:
        while self._free and (group := groups.take(self._waiting, self._settings.copy_min_rows)):
            lane = self._free.pop()
            task = asyncio.create_task(self._hold(lane, group))
            self._running[task] = group
            task.add_done_callback(functools.partial(self._ended, lane))

    def _ended(self, lane: Lane, task: asyncio.Task[None]) -> None:
        group = self._running.pop(task)
        error = TransientError("the store was stopped") if task.cancelled() else task.exception()
        if error:
            for pending in group:
                pending.fail(error)
        self._free.append(lane)
        self._dispatch()

    async def _hold(self, lane: Lane, group: list[Pending]) -> None:
        """Try until the group is stored, or nobody waits for it, or told to give up (TransientError)."""
        backoff = BACKOFF_FIRST
        while True:
            try:
                await self._try(lane, group)
            except DATABASE_ERRORS:
                await self._interrupt.sleep(backoff * random.uniform(0.5, 1.0))
                backoff = min(backoff * 2, BACKOFF_MAX)
            else:
                return

    async def _try(self, lane: Lane, group: list[Pending]) -> None:
        await self._breaker.enter(self._interrupt)
        wanted = [pending for pending in group if not pending.answer.done()]
        if not wanted:
            self._breaker.abandoned()
            return
        started = time.perf_counter()
        try:
            session = lane.session
            if session is None:
                session = await self._interrupt.race(lane.open())
            with lane.deadline():
                await groups.store(session, wanted, self._settings.copy_min_rows)
        except DATABASE_ERRORS as error:
            lane.drop()
            self._tell(error)
            self._breaker.failed(error)
            raise
        except (TransientError, asyncio.CancelledError):
            lane.drop()
            self._breaker.abandoned()
            raise
        self._breaker.succeeded()
        self._events.write_finished(time.perf_counter() - started, sum(len(pending.rows) for pending in wanted))

    def _tell(self, error: BaseException) -> None:
        """Call for an operator, once per message and minute."""
        what = advice(error)
        if what is None:
            return
        message, now = f"{words(error)}: {what}", time.monotonic()
        if self._told[0] != message or now >= self._told[1] + REMIND_SECONDS:
            self._told = (message, now)
            self._events.operator_needed(message)
