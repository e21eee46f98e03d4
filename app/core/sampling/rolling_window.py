"""A rolling window over one key of a device's readings: count, mean, least and greatest, by event time.

A window is cut into BUCKETS parts on the clock of event time, so that its state is bounded whatever comes in: the
window covers the part of the newest reading and the 11 parts before. So a window of 60 s reaches 55 to 60 s back.
Readings may come in any order: a reading in a covered part counts there, an older reading does not count.
"""

from typing import NamedTuple

from msgspec import Struct

BUCKETS = 12
SCALE = 2.0**-64  # a power of two, which rounds nothing


class WindowStats(NamedTuple):
    """The figures of a window; `mean` is within `least` and `greatest`."""

    readings: int
    mean: float
    least: float
    greatest: float


class Bucket(Struct, array_like=True, gc=False):
    """The readings of one part; `total` adds SCALE times each value, so that the sum cannot overflow."""

    count: int
    total: float
    least: float
    greatest: float


class RollingWindow(Struct, array_like=True):
    """`buckets` by number, counted since 1970; only buckets that are covered at `newest` and hold readings."""

    newest: int = -1
    buckets: dict[int, Bucket] = {}

    def move(self, number: int) -> None:
        """A reading of the device lies in this part, with the key or without: parts too old by now are dropped."""
        if number > self.newest:
            self.newest = number
            for old in [old for old in self.buckets if old <= number - BUCKETS]:
                del self.buckets[old]

    def add(self, number: int, value: float) -> None:
        """Count a finite value in part `number`; a value of a part that is not covered any more is left out."""
        self.move(number)
        if number <= self.newest - BUCKETS:
            return
        bucket = self.buckets.get(number)
        if bucket is None:
            self.buckets[number] = Bucket(1, value * SCALE, value, value)
            return
        bucket.count += 1
        bucket.total += value * SCALE
        if value < bucket.least:
            bucket.least = value
        elif value > bucket.greatest:
            bucket.greatest = value

    def figures(self) -> WindowStats | None:
        """The figures of the window; None when the window holds no reading."""
        parts = self.buckets.values()
        if not parts:
            return None
        count = sum(part.count for part in parts)
        least, greatest = min(part.least for part in parts), max(part.greatest for part in parts)
        mean = sum(part.total for part in parts) / count / SCALE
        return WindowStats(count, min(max(mean, least), greatest), least, greatest)


def bucket_of(time: int, seconds: int) -> int:
    """The number of the part in which `time` (microseconds since 1970) lies, for windows of so many seconds."""
    return time * BUCKETS // (seconds * 1_000_000)
