"""Offsets at the end of a partition that hold no records: markers of transactions, which nobody is going to ack."""

from collections.abc import Sequence

from faust.types import TP

from app.stream.in_flight import READS, InFlight


class TransactionMarkers:
    """Partitions that are read again from where their last batch ended, to see whether any record comes."""

    def __init__(self, flight: InFlight) -> None:
        self._flight = flight
        self._from: dict[TP, tuple[int, int]] = {}  # offset, and how often it was read; at first not yet

    @property
    def looking(self) -> Sequence[TP]:
        """Partitions that are being looked at."""
        return list(self._from)

    def look(self, tp: TP) -> None:
        """Begin; not when something is in flight or it is being looked at already."""
        expected = self._flight.expected.get(tp)
        if expected is not None and self._flight.idle(tp) and tp not in self._from:
            self._from[tp] = (expected, 0)

    def reached(self, tp: TP, offset: int | None) -> int | None:
        """The client reads `offset` next. Past where it began, and no record came, each time: markers, and done.

        Returns the offset to seek to when it is to be read, or read once more. Not to be asked while a poll is under
        way, nor of a partition whose records were fetched and not handed over: those are no markers.
        """
        expected, times = self._from.get(tp, (None, 0))
        flight = self._flight
        if expected is None or flight.expected.get(tp) != expected or not flight.idle(tp):
            self._from.pop(tp, None)
        elif not times or (offset is not None and offset > expected):
            if times < READS or offset is None:
                self._from[tp] = (expected, times + 1)
                return expected
            del self._from[tp]
            flight.pass_over(tp, offset)
        return None

    def forget(self) -> None:
        """A seek or rebalance: nobody is looked at any more."""
        self._from.clear()
