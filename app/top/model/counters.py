"""The counters of one process over its restarts: pages in, one after another; totals and growth out, never negative."""

from app.top.model.samples import Key, MetricSamples, summed

MOST_SERIES = 50_000  # kept of one address; beyond that, series that have left its page are forgotten


class CounterHistory:
    """The counts of one address since the first look at it, whatever process has answered.

    A counter that went back, or another start time, means a new process, all of whose counters began at 0. Prometheus
    takes the same for a reset, but a counter at a time; here a page is reset as a whole, so that its sums still
    balance.
    """

    def __init__(self) -> None:
        self.totals: dict[Key, float] = {}  # of the first page, and all that was counted since
        self.grown: dict[Key, float] = {}  # between the last two pages
        self.seconds = 0.0  # between the last two pages; 0 after the first page
        self._last: dict[Key, float] = {}
        self._at: float | None = None
        self._born: float | None = None

    def take(self, samples: MetricSamples, at: float) -> None:
        """Count the page of a moment, `at` in seconds of a clock that only goes forward."""
        now, born = dict(samples.counters()), samples.value("process_start_time_seconds")
        anew = born != self._born or any(now.get(key, value) < value for key, value in self._last.items())
        before = {} if anew else self._last
        grown = {key: value - before.get(key, 0.0) for key, value in now.items()}
        if self._at is None:
            self.totals = dict(now)
        else:
            self.grown, self.seconds = grown, at - self._at
            for key, more in grown.items():
                self.totals[key] = self.totals.get(key, 0.0) + more
        if len(self.totals) > MOST_SERIES:
            self.totals = {key: self.totals[key] for key in now}
        self._last, self._at, self._born = now, at, born

    def total(self, name: str) -> float:
        """The total of a counter, summed over all labels; 0 when it is on no page."""
        return sum(value for (sample, _), value in self.totals.items() if sample == name)

    def rate(self, name: str) -> float | None:
        """Growth a second over all labels; None after a single page."""
        if self.seconds <= 0:
            return None
        return sum(value for (sample, _), value in self.grown.items() if sample == name) / self.seconds

    def more(self, name: str) -> float:
        """Growth between the last two pages, over all labels."""
        return sum(value for (sample, _), value in self.grown.items() if sample == name)

    def grown_by(self, name: str, label: str) -> dict[str, float]:
        """Growth of a counter between the last two pages, by one of its labels."""
        return summed(self.grown, name, label)

    def ledger(self) -> dict[int, dict[str, float]]:
        """{partition: {outcome: records}} of a worker, its counts before the first look included."""
        return _by_partition(self.totals)

    def ledger_rates(self) -> dict[int, dict[str, float]]:
        """{partition: {outcome: records a second}}; empty after a single page."""
        if self.seconds <= 0:
            return {}
        grown = _by_partition(self.grown)
        return {n: {outcome: more / self.seconds for outcome, more in one.items()} for n, one in grown.items()}


def partition_of(label: str) -> int | None:
    """The number of a partition that a label names; None when it names none."""
    return int(label) if label.isascii() and label.isdigit() and len(label) <= 9 else None


def _by_partition(values: dict[Key, float]) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for (name, labels), value in values.items():
        if name == "iot_ledger_total":
            one = dict(labels)
            number = partition_of(one.get("partition", ""))
            if number is not None and "outcome" in one:
                found.setdefault(number, {})[one["outcome"]] = value
    return found
