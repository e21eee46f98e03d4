"""Dead letters in the log: in, every one; out, one line a reason and interval, with their number and a sample."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from app.core.model.fault import printable
from app.core.model.records import Reason, Rejected

log = structlog.get_logger()

INTERVAL = 10.0  # seconds between two lines about one reason


@dataclass(slots=True)
class _Untold:
    """Of one reason."""

    count: int
    partition: int
    offset: int
    key: str  # whose it is
    detail: str
    due: float


class Rejections:
    """The first of a reason is logged at once, those that follow together when the interval is over.

    Call `report` now and then: nobody else says what came last.
    """

    def __init__(self, interval: float = INTERVAL, clock: Callable[[], float] = time.monotonic) -> None:
        """`interval` is seconds; `clock` returns seconds and never goes back."""
        self._interval, self._clock = interval, clock
        self._untold: dict[Reason, _Untold] = {}

    def add(self, partition: int, rejected: Iterable[Rejected]) -> None:
        """Note dead letters of a partition, in any order, and write the lines that are due."""
        for one in rejected:
            untold = self._untold.get(one.reason)
            if untold is None:
                untold = self._untold[one.reason] = _Untold(0, 0, 0, "", "", self._clock())
            if untold.count == 0:
                untold.partition, untold.offset, untold.detail = partition, one.record.offset, one.detail
                untold.key = printable(one.record.key or b"")
            untold.count += 1
        self.report()

    def report(self) -> None:
        """Write a line for each reason with dead letters since its last line, if that is an interval ago."""
        now = self._clock()
        for reason, untold in self._untold.items():
            if untold.count and now >= untold.due:
                log.warning(
                    "dead_letters",
                    reason=str(reason),
                    count=untold.count,
                    partition=untold.partition,
                    offset=untold.offset,
                    key=untold.key,
                    detail=untold.detail,
                )
                untold.count, untold.due = 0, now + self._interval
