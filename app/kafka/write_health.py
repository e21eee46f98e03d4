"""Which topics take no writes now: in, what fails and what goes through; out, the reason and whom to tell."""

from typing import Protocol

import structlog

from app.kafka.advice import advice
from app.runtime.retry import log_level

log = structlog.get_logger()


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

    def failed(self, topic: str, attempts: int, error: BaseException) -> None:
        """A write failed for so many times in a row, and is tried again."""
        cure = advice(topic, error)
        log.log(log_level(attempts), "kafka_send_retry", topic=topic, attempt=attempts, error=repr(error))
        if cure or attempts > 1:  # a first failure may be a leader that moved
            self.held[topic] = f"{error!r}: {cure}" if cure else repr(error)
            self._events.write_held(topic, attempts, repr(error), cure)

    def resumed(self, topic: str) -> None:
        """A write has ended, one way or the other."""
        if self.held.pop(topic, None) is not None:
            self._events.write_resumed(topic)
