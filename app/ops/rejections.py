"""Dead letters in the log: in, every dead letter; out, a line a reason and interval, with number and sample."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from app.core.model.fault import printable
from app.core.model.records import Reason, Rejected

log = structlog.get_logger()

INTERVAL = 10.0  # seconds between two lines about one reason


@dataclass(slots=True)
class _Unreported:
    """The dead letters of one reason since the last line; the sample is the first of them."""

    count: int
    partition: int
    offset: int
    key: str  # of the sample's record
    detail: str
    due: float


class Rejections:
    """The first dead letter of a reason is logged at once, later ones together when the interval is over.

    Call `report` now and then: nothing else writes the last line.
    """

    def __init__(self, interval: float = INTERVAL, clock: Callable[[], float] = time.monotonic) -> None:
        """`interval` is seconds; `clock` returns seconds and never goes back."""
        self._interval, self._clock = interval, clock
        self._unreported: dict[Reason, _Unreported] = {}

    def add(self, partition: int, rejected: Iterable[Rejected]) -> None:
        """Note dead letters of a partition, in any order, and write the lines that are due."""
        for one in rejected:
            unreported = self._unreported.get(one.reason)
            if unreported is None:
                unreported = self._unreported[one.reason] = _Unreported(0, 0, 0, "", "", self._clock())
            if unreported.count == 0:
                unreported.partition, unreported.offset, unreported.detail = partition, one.record.offset, one.detail
                unreported.key = printable(one.record.key or b"")
            unreported.count += 1
        self.report()

    def report(self) -> None:
        """Write a line for each reason with dead letters since its last line, if that is an interval ago."""
        now = self._clock()
        for reason, unreported in self._unreported.items():
            if unreported.count and now >= unreported.due:
                log.warning(
                    "dead_letters",
                    reason=str(reason),
                    count=unreported.count,
                    partition=unreported.partition,
                    offset=unreported.offset,
                    key=unreported.key,
                    detail=unreported.detail,
                )
                unreported.count, unreported.due = 0, now + self._interval
