"""Calls of a sink, one at a time: in, what is to be called; out, its answer, or how long the destination is left alone.

A rebalance and a stop give a call that is under way a few seconds, and then cancel it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from app.errors import TransientError
from app.runtime.interrupt import Interrupt
from app.runtime.retry import log_level
from app.sinks.port import SinkUnavailable
from app.sinks.running.books import SinkBooks
from app.sinks.running.circuit import SinkCircuit

log = structlog.get_logger()
T = TypeVar("T")


class SinkCalls:
    """The calls of one sink."""

    def __init__(self, sink: str, circuit: SinkCircuit, books: SinkBooks, stop: Interrupt, last_seconds: float) -> None:
        """Once stopped, a call that is under way or made has `last_seconds`."""
        self._sink, self._circuit, self._books = sink, circuit, books
        self._stop, self._last_seconds = stop, last_seconds
        self._current: asyncio.Future[Any] | None = None
        self.wait = 0.0  # seconds to leave the destination alone, after a failure

    async def make(self, step: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return what `call` returns; `step` names it in the log and in iot_sink_failures_total.

        Raises SinkUnavailable as it does: then `wait` says when it may be called again; and TransientError when it was
        cancelled by a rebalance or a stop.
        """
        self._circuit.trying()
        self._current = asyncio.ensure_future(call())
        try:
            await self._stop.first_of(self._current)
            await self.finish(self._last_seconds)
            found: T = self._current.result()
        except SinkUnavailable as error:
            self._failed(step, error)
            raise
        except asyncio.CancelledError:
            self._circuit.abandoned()
            if not self._current.cancelled():
                self._current.cancel()
                await asyncio.wait({self._current})
                raise
            raise TransientError(f"{step} was interrupted: what it wrote is not known, and comes again") from None
        finally:
            self._current = None
        self.wait = 0.0
        if self._circuit.succeeded():
            log.info("sink_resumed", sink=self._sink, step=step)
        return found

    async def finish(self, seconds: float) -> None:
        """Return once no call is under way; it is cancelled after so many seconds."""
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
