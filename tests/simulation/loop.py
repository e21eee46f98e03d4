"""One thread of time for all processes of a world: an asyncio loop with a virtual clock and a chosen order.

What runs next is drawn from all that is ready. Every callback belongs to a Life, a process that can die or stall
between any two of them, or to the servers, which cannot. asyncio promises the order in which callbacks were scheduled;
drawing allows more orders than that, so a promise that holds in this loop holds in asyncio's.
"""

import asyncio
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from itertools import count
from typing import Any

from tests.simulation.life import LIFE, SERVERS, Handle, Life, SimFuture, SimTask


class StuckError(AssertionError):
    """Nothing is ready and no timer is set: everybody waits for somebody else."""


class SimLoop(asyncio.AbstractEventLoop):
    """`random` draws among what is ready; None takes it in asyncio's order."""

    def __init__(self, random: Callable[[], float] | None) -> None:
        self._random = random
        self._ready: list[Handle] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._order = count()
        self._current: Handle | None = None  # about to run
        self.serials = count(1)
        self.now = 0.0
        self.step = 0
        self.over = False  # set it to end `run`
        self.steps_max = 1 << 60
        self.next_fault = 1 << 60  # the step before which `before_step` is called
        self.before_step: Callable[[Handle], None]  # may kill, stall or just look on
        self.on_tick: Callable[[], None] = lambda: None  # whenever time passes

    def run(self) -> None:
        """Run until `over`. Raises StuckError, and whatever a server's callback raises."""
        events._set_running_loop(self)
        ready, random, run_one = self._ready, self._random, self._run_one  # a schedule is hundreds of steps
        try:
            while not self.over:
                while not ready:
                    self._tick()
                if random is None:
                    run_one(ready.pop(0))
                    continue
                index = int(random() * len(ready))
                ready[index], ready[-1] = ready[-1], ready[index]
                run_one(ready.pop())
        finally:
            events._set_running_loop(None)

    def _tick(self) -> None:
        timers = self._timers
        while timers and (timers[0][2].gone or (timers[0][2].life is not None and timers[0][2].life.dead)):
            heapq.heappop(timers)
        if not timers:
            raise StuckError("nothing is ready and no timer is set")
        self.now = max(self.now, timers[0][0])
        self.on_tick()
        while timers and timers[0][0] <= self.now:
            handle = heapq.heappop(timers)[2]
            if not handle.gone:
                self._ready.append(handle)

    def _run_one(self, handle: Handle) -> None:
        if handle.gone:
            return
        self.step = step = self.step + 1
        if step > self.steps_max:
            raise StuckError(f"not over after {self.steps_max} steps")
        if step >= self.next_fault:
            self._current = handle
            self.before_step(handle)
            self._current = None
        life = handle.life
        if life is not None:
            if life.dead:
                return
            if life.parked is not None:
                life.parked.append(handle)
                return
        handle.context.run(handle.callback, *handle.args)

    def bury(self, life: Life) -> None:
        """End the tasks of a dead life. What they still ask of the world fails (link.Link), so nobody notices."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            self._bury(life)
        finally:
            events._set_running_loop(before)

    def _bury(self, life: Life) -> None:
        if self._current is not None and self._current.life is life:
            self._ready.append(self._current)
        for _ in range(100):
            pending = [task for task in life.tasks if not task.done()]
            for task in pending:
                task.cancel()
            mine = [handle for handle in self._ready if handle.life is life] + (life.parked or [])
            if not mine and not pending:
                return
            life.parked = None
            self._ready[:] = [handle for handle in self._ready if handle.life is not life]
            for handle in mine:
                if not handle.gone:
                    handle.context.run(handle.callback, *handle.args)
        raise AssertionError(f"tasks that do not end: {pending}")

    def wake(self, life: Life) -> None:
        """End a stall."""
        parked, life.parked = life.parked or [], None
        self._ready += parked

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:  # type: ignore[override]
        handle = Handle(callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:  # type: ignore[override]
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:  # type: ignore[override]
        handle = Handle(callback, args, copy_context() if context is None else context)
        handle.when = when
        heapq.heappush(self._timers, (when, next(self._order), handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return SimFuture(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> Any:  # type: ignore[override]
        task = SimTask(coro, loop=self, **options)
        asyncio.tasks._unregister_task(task)  # of all loops' tasks: equal numbers of other schedules slow the set down
        life = LIFE.get()
        if life is not None:
            life.tasks.append(task)
        return task

    def start(self, life: Life, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin the first task of a life."""
        context = SERVERS.copy()
        context.run(LIFE.set, life)
        task: asyncio.Task[Any] = context.run(self.create_task, coro)
        return task

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tasks whose end nobody asks for: the tasks of dead processes."""

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False
