"""Who counts for most among names that anybody may invent: a few counters, whatever comes (Misra and Gries)."""

from collections.abc import Mapping

COUNTERS = 800


class HeavyHitters:
    """Sums by name. A name with more than 1/400 of the whole is always there; its sum may be low by as much."""

    def __init__(self, counters: int = COUNTERS) -> None:
        """At most `counters` names are kept: the smallest go; a name with twice the share of a counter always stays."""
        self._counters = counters
        self._sums: dict[str, float] = {}
        self.total = 0.0

    @property
    def sums(self) -> Mapping[str, float]:
        """The sum of each name that is kept."""
        return self._sums

    def add(self, name: str, amount: float) -> None:
        """Add an amount to the sum of a name."""
        self.total += amount
        self._sums[name] = self._sums.get(name, 0.0) + amount
        if len(self._sums) > self._counters:
            # The median is taken off each: half of them go, so that names made up cost no more than others.
            median = sorted(self._sums.values())[len(self._sums) // 2]
            self._sums = {known: left - median for known, left in self._sums.items() if left > median}

    def halve(self) -> None:
        """What was counted so far counts for half from now on; names that come to nothing are forgotten."""
        self.total /= 2
        self._sums = {name: amount / 2 for name, amount in self._sums.items() if amount >= 0.5}

    def top(self, count: int) -> list[tuple[str, float]]:
        """The `count` largest sums with their names, the largest first."""
        return sorted(self._sums.items(), key=lambda one: (-one[1], one[0]))[:count]
