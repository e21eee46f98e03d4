"""What the store tells the world, for logs and metrics. Whoever listens must not raise."""

from typing import Protocol

from app.postgres.circuit_breaker import BreakerEvents


class StoreEvents(BreakerEvents, Protocol):
    """The breaker's transitions, and these."""

    def write_finished(self, seconds: float, rows: int) -> None:
        """A transaction of this many rows is done."""

    def database_failed(self, part: str, kind: str, error: str) -> None:
        """A call of "writes", "late rows" or "rules" failed, "transient" or "permanent"; it will be made again."""

    def late_rows(self, waiting: int) -> None:
        """How many late rows wait in the slow lane now."""

    def operator_needed(self, message: str) -> None:
        """Waiting alone will not help; the message says what will. Told once a minute at most."""

    def operator_done(self) -> None:
        """Nobody has to act any more."""


class NoStoreEvents:
    """Tells nobody."""

    def breaker_opened(self, wait: float, error: str) -> None: ...
    def breaker_half_open(self) -> None: ...
    def breaker_closed(self) -> None: ...
    def write_rejected(self) -> None: ...
    def write_finished(self, seconds: float, rows: int) -> None: ...
    def database_failed(self, part: str, kind: str, error: str) -> None: ...
    def late_rows(self, waiting: int) -> None: ...
    def operator_needed(self, message: str) -> None: ...
    def operator_done(self) -> None: ...
