"""What the store tells the world, for logs and metrics. Whoever listens must not raise."""

from typing import Protocol

from app.adapters.breaker import BreakerEvents


class StoreEvents(BreakerEvents, Protocol):
    """The breaker's transitions, and these."""

    def write_finished(self, seconds: float, rows: int) -> None:
        """A transaction of this many rows is done."""

    def operator_needed(self, message: str) -> None:
        """Waiting alone will not help; the message says what will. Told once a minute at most."""


class Silent:
    """Tells nobody."""

    def breaker_opened(self, wait: float, error: str) -> None: ...
    def breaker_half_open(self) -> None: ...
    def breaker_closed(self) -> None: ...
    def write_rejected(self) -> None: ...
    def write_finished(self, seconds: float, rows: int) -> None: ...
    def operator_needed(self, message: str) -> None: ...
