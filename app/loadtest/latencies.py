"""How long things took: seconds in, percentiles out, in bounded memory. Pure."""

import math
from collections.abc import Iterator, Mapping

_STEPS = 16  # buckets for each doubling: a figure is at most 4.5 % too high
_SMALLEST = 1e-6
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


class Latencies:
    """A histogram whose buckets grow in proportion; `count` and `highest` are exact."""

    def __init__(self) -> None:
        self.count, self.highest = 0, 0.0
        self.buckets: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Count one."""
        bucket = int(math.log2(seconds / _SMALLEST) * _STEPS) + 1 if seconds > _SMALLEST else 0
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.count += 1
        if seconds > self.highest:
            self.highest = seconds

    def merge(self, other: "Latencies") -> None:
        """Count those of `other` too."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.count += other.count
        self.highest = max(self.highest, other.highest)

    def percentile(self, percent: float) -> float:
        """The seconds within which so many percent were done; 0 where there were none."""
        wanted, seen = self.count * percent / 100, 0
        for end, count in self.cumulative():
            seen = count
            if seen >= wanted:
                return min(end, self.highest)
        return self.highest

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """(seconds, how many took at most so long), rising."""
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            yield _SMALLEST * 2 ** (bucket / _STEPS), seen

    def figures(self) -> Mapping[str, float]:
        """Milliseconds by name, for a report."""
        found = {f"p{percent:g}": round(1000 * self.percentile(percent), 3) for percent in PERCENTILES}
        return {"count": self.count, **found, "max": round(1000 * self.highest, 3)}
