"""Whether a destination is there: in, how each call went; out, how long to wait before the next one."""

from enum import StrEnum

from app.runtime.retry import delay

FIRST_SECONDS = 0.1


class CircuitState(StrEnum):
    """closed: calls go through; open: the destination is away; half_open: one call tries whether it is back."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


SHOWN = {CircuitState.CLOSED: 0.0, CircuitState.HALF_OPEN: 0.5, CircuitState.OPEN: 1.0}


class SinkCircuit:
    """The circuit of one sink, which makes one call at a time: so it opens after some failures in a row, and each try
    thereafter is the one that finds out.
    """

    def __init__(self, failures: int, longest: float) -> None:
        """Opens after `failures` in a row; waits `longest` seconds at most."""
        self._limit, self._longest = failures, longest
        self.state = CircuitState.CLOSED
        self.failures = 0  # in a row

    @property
    def shown(self) -> float:
        """The state as a metric: 1 open, 0.5 half-open, 0 closed."""
        return SHOWN[self.state]

    def trying(self) -> None:
        """A call begins."""
        if self.state is CircuitState.OPEN:
            self.state = CircuitState.HALF_OPEN

    def succeeded(self) -> bool:
        """The call went through; whether the circuit was not closed before."""
        was_away, self.failures = self.state is not CircuitState.CLOSED, 0
        self.state = CircuitState.CLOSED
        return was_away

    def failed(self, retry_after: float = 0.0) -> float:
        """The call failed, and the destination wants to be left alone for `retry_after` seconds: how long to wait.

        What a destination asks for counts up to ten times the longest wait: its clock may be wrong.
        """
        self.failures += 1
        if self.state is not CircuitState.CLOSED or self.failures >= self._limit:
            self.state = CircuitState.OPEN
        return max(delay(self.failures - 1, FIRST_SECONDS, self._longest), min(retry_after, 10 * self._longest))

    def abandoned(self) -> None:
        """The call ended without an outcome."""
        if self.state is CircuitState.HALF_OPEN:
            self.state = CircuitState.OPEN
