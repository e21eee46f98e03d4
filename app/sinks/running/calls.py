"""Calls of a sink, one at a time: a call in; out, its result, or the time to wait before the next try.

A rebalance and a stop give a running call a few seconds, and then cancel it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from app.errors import TransientError
from app.kafka.session_lease import SessionLease
from app.runtime.interrupt import Interrupt
from app.runtime.retry import log_level
from app.sinks.port import SinkUnavailable
from app.sinks.running.books import SinkBooks
from app.sinks.running.circuit import SinkCircuit

log = structlog.get_logger()

LEASE_SECONDS = 0.5  # between two looks at a lease: it also ends while the machine is suspended, as no timer does
CLOSE_SECONDS = 1.0  # for the commit after the last call
T = TypeVar("T")


async def within(lease: SessionLease, call: Awaitable[T]) -> T:
    """Return the result of `call`. Raises TransientError, and cancels the call, when the lease ends before: after a
    stall, another process may have the partitions.
    """
    task = asyncio.ensure_future(call)
    try:
        while not (await asyncio.wait({task}, timeout=min(LEASE_SECONDS, lease.left())))[0]:
            if not lease.valid():
                raise TransientError("interrupted while Kafka may have given the partitions to others")
        return task.result()
    finally:
        if task.cancel():
            await asyncio.wait({task})


class StopBudget:
    """The time that a sink has left to stop, for all its remaining steps together."""

    def __init__(self, stop: asyncio.Event, seconds: float) -> None:
        self._stop, self._seconds = stop, seconds
        self._until: float | None = None

    def left(self) -> float:
        """Seconds; the whole budget before the stop, and never less than 0.05."""
        if not self._stop.is_set():
            return self._seconds
        if self._until is None:
            self._until = time.monotonic() + self._seconds
        return max(0.05, self._until - time.monotonic())


class SinkCalls:
    """The calls of one sink."""

    def __init__(self, sink: str, circuit: SinkCircuit, books: SinkBooks, stop: Interrupt, budget: StopBudget) -> None:
        """Once stopped, calls have the `budget` less CLOSE_SECONDS."""
        self._sink, self._circuit, self._books = sink, circuit, books
        self._stop, self._budget = stop, budget
        self._current: asyncio.Future[Any] | None = None
        self.wait = 0.0  # seconds to wait after a failure

    async def make(self, step: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `call`; `step` is its name in the log and in iot_sink_failures_total.

        Raises SinkUnavailable as `call` does, and sets `wait`; raises TransientError when a rebalance or a stop has
        cancelled the call.
        """
        self._circuit.trying()
        self._current = asyncio.ensure_future(call())
        try:
            await self._stop.first_of(self._current)
            await self.finish(max(0.05, self._budget.left() - CLOSE_SECONDS))
            found: T = self._current.result()
        except SinkUnavailable as error:
            self._failed(step, error)
            raise
        except TransientError:
            self._circuit.abandoned()
            raise
        except asyncio.CancelledError:
            self._circuit.abandoned()
            if not self._current.cancelled():
                self._current.cancel()
                await asyncio.wait({self._current})
                raise
            raise TransientError(f"{step} was interrupted: the outcome is unknown, the call is retried") from None
        finally:
            self._current = None
        self.wait = 0.0
        if self._circuit.succeeded():
            log.info("sink_resumed", sink=self._sink, step=step)
        return found

    async def finish(self, seconds: float) -> None:
        """Return once no call is running; a running call is cancelled after `seconds`."""
        current = self._current
        if current is not None and not current.done():
            await asyncio.wait({current}, timeout=seconds)
            if current.cancel():
                await asyncio.wait({current})

    def _failed(self, step: str, error: SinkUnavailable) -> None:
        self._books.failed(step)
        self.wait = self._circuit.failed(error.retry_after)
        attempt = self._circuit.failures
        level = log_level(attempt)
        log.log(level, "sink_retry", sink=self._sink, step=step, attempt=attempt, error=str(error), wait=self.wait)
