"""The circuit breaker before the database: who may try now, and who waits until the outage is over.

A try begins with one call and ends with another, and many tries are under way at once; so this breaker is no wrapper of
a call, as the breakers of libraries are. The clock is an argument: tests turn it by hand.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable
from enum import StrEnum

from app.postgres.events import BreakerEvents
from app.postgres.sqlstate import unreachable, words
from app.runtime.interrupt import Interrupt, set_within
from app.runtime.retry import backoff

JITTER = 0.2  # each wait is off by up to this share, so that a fleet does not come back all at once


class BreakerState(StrEnum):
    """The state of the circuit: closed lets all tries through, open none, half-open a single try."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Opens after `failures` in a row, for `reset_min` seconds doubling to `reset_max`; then lets one caller try.

    Callers call enter() before a try, and exactly one of succeeded(), failed(), answered() and abandoned() afterwards.
    """

    def __init__(
        self,
        failures: int,
        reset_min: float,
        reset_max: float,
        events: BreakerEvents,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._reset_min, self._reset_max = failures, reset_min, reset_max
        self._events, self._clock = events, clock
        self.state = BreakerState.CLOSED
        self.unreachable = False  # the circuit opened for the first time, and because nobody answered
        self._failures = 0  # in a row
        self._openings = 0  # since the circuit was last closed
        self._due = 0.0  # on the clock: when an open breaker lets one try
        self._trying = False  # the one try of the half-open breaker is under way
        self._changed = asyncio.Event()

    def admit(self) -> float:
        """Return 0 to a caller that may try now, else the seconds to wait before asking again (inf: until a change)."""
        if self.state is BreakerState.CLOSED:
            return 0.0
        if self.state is BreakerState.OPEN:
            if (wait := self._due - self._clock()) > 0:
                return wait
            self._half_open()
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
            await interrupt.race(set_within(self._changed, None if math.isinf(wait) else wait))
            wait = self.admit()

    def succeeded(self) -> None:
        """The try went through: an open or half-open circuit closes."""
        self._failures = 0
        if self.state is BreakerState.OPEN:
            self._half_open()  # a try from before the opening came through after all
        self.answered()

    def failed(self, error: BaseException) -> None:
        """The try failed because of an outage. Tries under way when the circuit opened no longer count."""
        if self.state is BreakerState.OPEN:
            return
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN or self._failures >= self._limit:
            self._open(error)

    def abandoned(self) -> None:
        """The try ended without an outcome: the next try may have its place."""
        self._trying = False
        self._wake()

    def answered(self) -> None:
        """The try ended in a refusal that no outage explains: a half-open circuit closes."""
        if self.state is BreakerState.HALF_OPEN:
            self._turn(BreakerState.CLOSED)
            self._failures = self._openings = 0
            self.unreachable = False
            self._events.breaker_closed()

    def bring_forward(self) -> None:
        """The database answers again: an open circuit need not wait for the rest of its time."""
        if self.state is BreakerState.OPEN:
            self._due = self._clock()
            self._wake()

    def _open(self, error: BaseException) -> None:
        self._turn(BreakerState.OPEN)
        wait = backoff(self._openings, self._reset_min, self._reset_max)
        wait = min(wait * random.uniform(1 - JITTER, 1 + JITTER), self._reset_max)
        self._openings += 1
        self.unreachable = self._openings == 1 and unreachable(error)
        self._due = self._clock() + wait
        self._events.breaker_opened(wait, words(error))

    def _half_open(self) -> None:
        self._turn(BreakerState.HALF_OPEN)
        self._events.breaker_half_open()

    def _turn(self, state: BreakerState) -> None:
        """Change the state, and let the callers that wait look again."""
        self.state = state
        self._trying = False
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
