"""What the store reports, for logs and metrics. A listener must not raise."""

from datetime import datetime
from typing import Protocol


class BreakerEvents(Protocol):
    """What the breaker reports: each transition, and each write that has to wait."""

    def breaker_opened(self, wait: float, error: str) -> None:
        """Nothing is tried for `wait` seconds; `error` is the latest failure in words."""

    def breaker_half_open(self) -> None:
        """One write is let through, to see whether the database is back."""

    def breaker_closed(self) -> None:
        """The database is back."""

    def write_rejected(self) -> None:
        """A write waits because the breaker is open."""


class StoreEvents(BreakerEvents, Protocol):
    """What the store reports, the breaker's transitions among it."""

    def write_finished(self, seconds: float, rows: int) -> None:
        """A transaction of this many rows is done."""

    def copied(self, rows: int) -> None:
        """COPY put so many rows straight into the table."""

    def copy_failed(self, dead_rows: int) -> None:
        """Such a COPY met a duplicate or a bad row, and left so many dead rows at most; its rows are staged."""

    def abandoned_copies_ended(self, count: int) -> None:
        """Backends that waited for more of a COPY whose worker has given it up, or does not run, were ended."""

    def database_failed(self, part: str, kind: str, error: str) -> None:
        """A call of `part` ("writes", "late rows", "rules") failed, "transient" or "permanent"; it is repeated."""

    def late_rows(self, waiting: int) -> None:
        """How many late rows wait in the slow lane now."""

    def config_left_out(self, user_id: str, came_in: datetime, partition: int | None, offset: int | None) -> None:
        """A configuration over MQTT is not the newest, and changes nothing; `partition` and `offset` if known."""

    def operator_needed(self, message: str) -> None:
        """Waiting alone will not help; the message says what will. Reported once a minute at most."""

    def operator_done(self) -> None:
        """Nobody has to act any more."""


class NoStoreEvents:
    """Reports to nobody."""

    def breaker_opened(self, wait: float, error: str) -> None: ...
    def breaker_half_open(self) -> None: ...
    def breaker_closed(self) -> None: ...
    def write_rejected(self) -> None: ...
    def write_finished(self, seconds: float, rows: int) -> None: ...
    def copied(self, rows: int) -> None: ...
    def copy_failed(self, dead_rows: int) -> None: ...
    def abandoned_copies_ended(self, count: int) -> None: ...
    def database_failed(self, part: str, kind: str, error: str) -> None: ...
    def late_rows(self, waiting: int) -> None: ...
    def config_left_out(self, user_id: str, came_in: datetime, partition: int | None, offset: int | None) -> None: ...
    def operator_needed(self, message: str) -> None: ...
    def operator_done(self) -> None: ...
