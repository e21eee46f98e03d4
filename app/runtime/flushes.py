"""What a program wrote to its destination, last and on average: in, each write; out, the figures for /health."""

import time
from collections import deque
from typing import NamedTuple

KEPT = 100  # writes that the mean is of


class Flush(NamedTuple):
    """One write: a transaction of a worker, a chunk that Kafka acknowledged of a bridge."""

    at: float  # when the write was done, seconds since 1970
    rows: int  # of the transaction, or records of the chunk
    seconds: float  # that the write took


class Flushes:
    """The last KEPT writes of a process."""

    def __init__(self) -> None:
        self._kept: deque[Flush] = deque(maxlen=KEPT)

    def add(self, rows: int, seconds: float) -> None:
        """A write of so many rows (or records) has ended now, and took `seconds`."""
        self._kept.append(Flush(time.time(), rows, seconds))

    @property
    def last(self) -> Flush | None:
        """The latest write; None before the first."""
        return self._kept[-1] if self._kept else None

    @property
    def mean_seconds(self) -> float | None:
        """The mean duration of the last KEPT writes; None before the first."""
        return sum(one.seconds for one in self._kept) / len(self._kept) if self._kept else None
