"""How far a worker has read a partition, and since when the worker is behind the end of the log."""

from collections import deque
from typing import NamedTuple


class LogPosition(NamedTuple):
    """A partition as Kafka reported it last."""

    epoch: int  # of the assignment
    start: int  # where reading began
    end: int | None  # offset after the last record; None: not reported yet
    reported_at: float | None  # when Kafka reported `end`, seconds since 1970


class Watermark:
    """Up to when all records that had come into a partition are processed, by this worker's clock alone."""

    def __init__(self, now: float) -> None:
        self.at = now  # seconds since 1970
        self._ends: deque[tuple[float, int]] = deque()

    def look(self, position: LogPosition, processed: int) -> None:
        """Look again; `processed` is the offset up to which everything is processed."""
        if position.end is not None and position.reported_at is not None:
            self._ends.append((position.reported_at, position.end))
        while self._ends and self._ends[0][1] <= processed:
            self.at = max(self.at, self._ends.popleft()[0])
