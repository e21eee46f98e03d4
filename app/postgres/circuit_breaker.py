"""The circuit breaker before the database: who may try now, and who waits until the outage is over.

pybreaker counts the failures and keeps the state; the waiting is done here, on a clock that tests turn by hand.
"""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NoReturn

import pybreaker

from app.postgres.events import BreakerEvents
from app.postgres.sqlstate import unreachable, words
from app.runtime.interrupt import Interrupt

JITTER = 0.2  # each wait is off by up to this share, so that a fleet does not come back all at once


class BreakerState(StrEnum):
    """Of the circuit: closed lets all through, open none, half-open one."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Opens after `failures` in a row, for `reset_min` seconds doubling to `reset_max`; then lets one try.

    Call enter() before a try, and exactly one of succeeded(), failed() and abandoned() after it.
    """

    def __init__(
        self,
        failures: int,
        reset_min: float,
        reset_max: float,
        events: BreakerEvents,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reset_min, self._reset_max = reset_min, reset_max
        self._events, self._clock = events, clock
        self._openings = 0  # since it was last closed
        self._due = 0.0  # on the clock: when an open breaker lets one try
        self._trying = False  # the one try of the half-open breaker is under way
        self._error, self._unreachable = "", False
        self._changed = asyncio.Event()
        self._circuit = pybreaker.CircuitBreaker(
            fail_max=failures, listeners=[_Listener(self)], throw_new_error_on_trip=False
        )

    @property
    def state(self) -> BreakerState:
        """Where the circuit stands."""
        return BreakerState(self._circuit.current_state)

    def admit(self) -> float:
        """Return 0 to who may try now, else the seconds to wait before asking again (inf: until a change)."""
        if self.state is BreakerState.CLOSED:
            return 0.0
        if self.state is BreakerState.OPEN:
            if (wait := self._due - self._clock()) > 0:
                return wait
            self._circuit.half_open()
        if self._trying:
            return math.inf
        self._trying = True
        return 0.0

    async def enter(self, interrupt: Interrupt) -> None:
        """Wait until this caller may try. Raises TransientError when interrupted."""
        wait = self.admit()
        if wait:
            self._events.write_rejected()
        while wait:
            await interrupt.race(self._change(wait))
            wait = self.admit()

    def succeeded(self) -> None:
        """The try went through: an open or half-open circuit closes."""
        if self.state is BreakerState.OPEN:
            self._circuit.half_open()  # a try from before the opening came through after all
        self._circuit.call(_nothing)

    def failed(self, error: BaseException) -> None:
        """The try failed for an outage. Those under way when the circuit opened no longer count."""
        if self.state is not BreakerState.OPEN:
            with contextlib.suppress(type(error)):
                self._circuit.call(_throw, error)

    def abandoned(self) -> None:
        """The try ended without an outcome: the next one may have its place."""
        self._trying = False
        self._wake()

    def answered(self) -> None:
        """The try ended in a refusal that no outage explains: a half-open circuit closes."""
        if self.state is BreakerState.HALF_OPEN:
            self._circuit.call(_nothing)

    def bring_forward(self) -> None:
        """The database answers again: an open circuit need not wait for the rest of its time."""
        if self.state is BreakerState.OPEN:
            self._due = self._clock()
            self._wake()

    @property
    def unreachable(self) -> bool:
        """Whether it opened for the first time, and because nobody answered."""
        return self._openings == 1 and self._unreachable

    def note(self, error: BaseException) -> None:
        """Remember the latest failure in words, for the opening's event."""
        self._error, self._unreachable = words(error), unreachable(error)

    def turned(self, state: BreakerState) -> None:
        """Set the next wait and tell the world; called by the circuit on each transition."""
        self._trying = False
        self._wake()
        if state is BreakerState.HALF_OPEN:
            self._events.breaker_half_open()
        elif state is BreakerState.CLOSED:
            self._openings = 0
            self._events.breaker_closed()
        else:
            wait = min(self._reset_min * 2**self._openings, self._reset_max)
            wait = min(wait * random.uniform(1 - JITTER, 1 + JITTER), self._reset_max)
            self._openings = min(self._openings + 1, 30)  # 2**30 times any wait is past every limit
            self._due = self._clock() + wait
            self._events.breaker_opened(wait, self._error)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self, wait: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(wait) else wait):
                await self._changed.wait()


class _Listener(pybreaker.CircuitBreakerListener):  # type: ignore[misc]  # pybreaker is not typed
    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def failure(self, cb: Any, exc: BaseException) -> None:
        self._breaker.note(exc)

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self._breaker.turned(BreakerState(new_state.name))


def _nothing() -> None:
    return None


def _throw(error: BaseException) -> NoReturn:
    raise error
