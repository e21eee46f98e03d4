"""The port of whoever watches a verification: how far it is, and whether to end it."""

from typing import Protocol

from app.history.verification.ledger import VerifyLedger


class SearchWatch(Protocol):
    """Who watches one step."""

    def seen(self, what: str, count: int) -> None:
        """So many of `what` were looked at: dead letters, rows, records outside of the range."""

    @property
    def stopped(self) -> bool:
        """Whether to end after what is at hand."""


class VerifyWatch(SearchWatch, Protocol):
    """Who watches all steps."""

    def begins(self, records: int) -> None:
        """It begins; the range has so many offsets."""

    def read(self, ledger: VerifyLedger) -> None:
        """A chunk of records was counted."""
