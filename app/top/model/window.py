"""Growth of the last while: increases with their times in; out, their sum, and quantiles of a histogram's buckets."""

import math
from collections import deque
from collections.abc import Mapping


class GrowthWindow:
    """Increases of the last `seconds`, by label; `at` and `now` are of a clock that only goes forward."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._parts: deque[tuple[float, Mapping[str, float]]] = deque()
        self._since: float | None = None

    def add(self, at: float, grown: Mapping[str, float]) -> None:
        """Take what was counted since the call before; the first call says only when the looking began."""
        if self._since is None:
            self._since = at
            return
        if any(grown.values()):
            self._parts.append((at, dict(grown)))
        while self._parts and self._parts[0][0] <= at - self._seconds:
            self._parts.popleft()

    def sums(self) -> dict[str, float]:
        """The increases by label, summed."""
        found: dict[str, float] = {}
        for _, part in self._parts:
            for label, value in part.items():
                found[label] = found.get(label, 0.0) + value
        return found

    def rate(self, now: float, least: float = 0.0) -> float | None:
        """Increase a second, over the time that was looked at, or `least` seconds; None before the second look."""
        if self._since is None or now <= self._since:
            return None
        return sum(self.sums().values()) / max(least, min(now - self._since, self._seconds))


def quantile(share: float, buckets: Mapping[str, float]) -> float | None:
    """The value below which `share` of the observations lie, by cumulative counts of each `le`, as Prometheus has it.

    Linear within a bucket; in the last one, its lower end. None when nothing was observed.
    """
    bounds = sorted((bound, count) for le, count in buckets.items() if (bound := _bound(le)) is not None)
    total = max((count for _, count in bounds), default=0.0)
    if total <= 0:
        return None
    wanted, low, below = share * total, 0.0, 0.0
    for bound, count in bounds:
        if count >= wanted and count > below:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, max(below, count)
    return low


def _bound(le: str) -> float | None:
    try:
        bound = float(le)
    except ValueError:
        return None
    return None if math.isnan(bound) else bound
