"""What the transport reports, for logs and metrics. A listener must not raise."""

from collections.abc import Collection, Sequence
from typing import Protocol

from faust.types import TP

from app.stream.rebalance.start_position import Position


class TransportEvents(Protocol):
    """What happens to offsets and to the log of the input topic."""

    def gap_healed(self, tp: TP, expected: int, found: int) -> None:
        """Seeking back to `expected`: records from there to `found` were fetched but not handed over."""

    def offsets_missing(self, tp: TP, expected: int, found: int) -> None:
        """The log holds nothing from `expected` to `found` any more: retention has removed what was not read."""

    def log_made_anew(self, cause: str, partitions: Sequence[int]) -> None:
        """Offsets of these partitions begin anew: states keep what they know of their devices, and no offset."""

    def log_in_doubt(self, what: str) -> None:
        """Nothing is read before it is known whether the log is still the same."""

    def position_reset(self, tp: TP, position: Position) -> None:
        """The committed offset is outside the log: retention, or a topic made anew."""


class NoTransportEvents:
    """Reports to nobody."""

    def gap_healed(self, tp: TP, expected: int, found: int) -> None: ...
    def offsets_missing(self, tp: TP, expected: int, found: int) -> None: ...
    def log_made_anew(self, cause: str, partitions: Sequence[int]) -> None: ...
    def log_in_doubt(self, what: str) -> None: ...
    def position_reset(self, tp: TP, position: Position) -> None: ...


class RebalanceEvents(Protocol):
    """What the consumer group reports. Times are seconds from the first rebalance since partitions were last read."""

    def rebalance_begins(self, generation: int, partitions: Collection[int]) -> None:
        """This worker hands back `partitions`, which it has read until now, to join the group anew."""

    def rebalance_ended(
        self, generation: int, before: Collection[int], now: Collection[int], joined: float, seconds: float, rounds: int
    ) -> None:
        """Partitions are read again: `before` and `now` are this worker's partitions, `joined` is when it had its
        assignment, `seconds` is the end, after so many `rounds`.
        """

    def first_batch(self, generation: int, partition: int, seconds: float) -> None:
        """The first batch since then has come, of this partition."""
