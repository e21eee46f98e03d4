"""A circuit breaker for a destination: the outcome of each call in; the wait before the next call out."""

from enum import StrEnum

from app.runtime.retry import delay

FIRST_SECONDS = 0.1


class CircuitState(StrEnum):
    """closed: calls are made; open: the destination is unavailable; half_open: one call tests the destination."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


SHOWN = {CircuitState.CLOSED: 0.0, CircuitState.HALF_OPEN: 0.5, CircuitState.OPEN: 1.0}


class SinkCircuit:
    """The circuit of one sink. A sink makes one call at a time, so each call after the circuit has opened is a test of
    the destination.
    """

    def __init__(self, failures: int, longest: float) -> None:
        """The circuit opens after `failures` consecutive failures; waits are at most `longest` seconds."""
        self._limit, self._longest = failures, longest
        self.state = CircuitState.CLOSED
        self.failures = 0  # consecutive

    @property
    def shown(self) -> float:
        """The state as a metric: 1 open, 0.5 half-open, 0 closed."""
        return SHOWN[self.state]

    def trying(self) -> None:
        """A call begins."""
        if self.state is CircuitState.OPEN:
            self.state = CircuitState.HALF_OPEN

    def succeeded(self) -> bool:
        """The call succeeded; returns whether the circuit was open before."""
        was_away, self.failures = self.state is not CircuitState.CLOSED, 0
        self.state = CircuitState.CLOSED
        return was_away

    def failed(self, retry_after: float = 0.0) -> float:
        """The call failed; returns the seconds to wait, at least `retry_after`, as the destination asked.

        `retry_after` is capped at ten times the longest wait: the destination's clock may be wrong.
        """
        self.failures += 1
        if self.state is not CircuitState.CLOSED or self.failures >= self._limit:
            self.state = CircuitState.OPEN
        return max(delay(self.failures - 1, FIRST_SECONDS, self._longest), min(retry_after, 10 * self._longest))

    def abandoned(self) -> None:
        """The call ended without an outcome."""
        if self.state is CircuitState.HALF_OPEN:
            self.state = CircuitState.OPEN
