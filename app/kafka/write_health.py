"""Which topics take no writes now: in, what fails and what goes through; out, the reason and whom to tell."""

from typing import Any, Protocol

from app.kafka.advice import advice
from app.runtime.retry import log_retry


class WriteEvents(Protocol):
    """What happens to writes; whoever listens must not raise."""

    def write_held(self, topic: str, attempts: int, error: str, cure: str | None) -> None:
        """`attempts` tries in a row failed; they go on. `cure` is what an operator must do, when waiting is not it."""

    def write_resumed(self, topic: str) -> None:
        """A write went through again, or nobody waits for one any more."""


class NoWriteEvents:
    """Tells nobody."""

    def write_held(self, topic: str, attempts: int, error: str, cure: str | None) -> None: ...
    def write_resumed(self, topic: str) -> None: ...


class WriteHealth:
    """Of one producer."""

    def __init__(self, events: WriteEvents) -> None:
        self.held: dict[str, str] = {}  # topics that take none now, and why
        self._events = events

    def failed(self, topic: str, state: Any) -> None:
        """What tenacity calls before it tries again."""
        error = state.outcome.exception()
        cure = advice(topic, error)
        log_retry("kafka_send_retry", topic, state)
        if cure or state.attempt_number > 1:  # a first failure may be a leader that moved
            self.held[topic] = f"{error!r}: {cure}" if cure else repr(error)
            self._events.write_held(topic, state.attempt_number, repr(error), cure)

    def resumed(self, topic: str) -> None:
        """A write has ended, one way or the other."""
        if self.held.pop(topic, None) is not None:
            self._events.write_resumed(topic)
