"""What became of a worker in a run of exporter_outage: samples in; out, its figures, and what is wrong with them.

1 MB is 10^6 bytes.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

WARM_UP = 300.0  # seconds; at most a third of the run
COMPARED = 60.0  # seconds at each end whose medians are compared; at most a quarter of what follows the warm-up


class Sample(NamedTuple):
    """The figures of a worker at one moment."""

    at: float  # seconds since the load began
    rss: float  # MB
    cpu: float  # seconds since the worker's start
    behind: float  # messages sent and not stored
    dropped: float  # spans


@dataclass(frozen=True)
class Outcome:
    """The end of a run of one worker."""

    name: str
    sent: int
    rows: int
    messages: int  # different ones among the rows
    asked: int | None  # requests that reached the collector; None: there is none
    samples: Sequence[Sample]

    @property
    def warm(self) -> list[Sample]:
        """The samples after the warm-up."""
        begin = min(WARM_UP, self.samples[-1].at / 3)
        return [one for one in self.samples if one.at >= begin]

    @property
    def rss_first(self) -> float:
        """MB, median of the first samples after the warm-up."""
        warm = self.warm
        return statistics.median(one.rss for one in warm if one.at <= warm[0].at + self._compared)

    @property
    def rss_last(self) -> float:
        """MB, median of the last samples."""
        warm = self.warm
        return statistics.median(one.rss for one in warm if one.at >= warm[-1].at - self._compared)

    @property
    def growth(self) -> float:
        """MB from the end of the warm-up to the end of the run."""
        return self.rss_last - self.rss_first

    @property
    def slope(self) -> float:
        """MB an hour, least squares over all samples after the warm-up."""
        warm = self.warm
        return 3600 * statistics.linear_regression([one.at for one in warm], [one.rss for one in warm]).slope

    @property
    def cpu(self) -> float:
        """CPU seconds from the end of the warm-up to the end of the run."""
        warm = self.warm
        return warm[-1].cpu - warm[0].cpu

    @property
    def behind(self) -> float:
        """The largest backlog after the warm-up, in messages, at a sample."""
        return max(one.behind for one in self.warm)

    @property
    def dropped(self) -> float:
        """Spans dropped."""
        return self.samples[-1].dropped

    @property
    def _compared(self) -> float:
        warm = self.warm
        return min(COMPARED, (warm[-1].at - warm[0].at) / 4)

    def wrong(self, reference: "Outcome", allowed: float, outage: bool) -> list[str]:
        """A line for each thing that is not as it must be.

        The memory at the end, and its growth after the warm-up, may be `allowed` MB above those of `reference`, a
        worker of the same run: a worker's own caches and RocksDB's buffers fill for longer than the warm-up.
        `outage`: no span can get through.
        """
        found = []
        if self.messages < self.sent:
            found.append(f"{self.name}: {self.sent - self.messages:,} of {self.sent:,} messages are not stored")
        if self.rows > self.messages:
            found.append(f"{self.name}: {self.rows - self.messages:,} messages are stored twice")
        if (more := self.growth - reference.growth) > allowed:
            found.append(
                f"{self.name}: the memory grew by {more:.1f} MB more than {reference.name}, over {allowed:.1f}"
            )
        if (more := self.rss_last - reference.rss_last) > allowed:
            found.append(f"{self.name}: {more:.1f} MB more memory at the end than {reference.name}, over {allowed:.1f}")
        if self.asked == 0:
            found.append(f"{self.name}: no span reached the collector: the run shows nothing")
        if outage and not self.dropped:
            found.append(f"{self.name}: no span was dropped: the collector was not out of order")
        return found


def table(outcomes: Sequence[Outcome]) -> str:
    """A line for each worker; the first is the reference of the ratio of CPU."""
    warm = outcomes[0].warm[0].at
    lines = [
        f"{'collector':10}{'sent':>10}{'stored':>10}{'behind':>8}{f'MB {warm / 60:.0f} min':>10}{'MB end':>8}"
        f"{'MB/h':>8}{'CPU s':>8}{'ratio':>7}{'dropped':>10}{'requests':>10}"
    ]
    for one in outcomes:
        ratio = one.cpu / outcomes[0].cpu if outcomes[0].cpu else float("nan")
        asked = "-" if one.asked is None else f"{one.asked:,}"
        lines.append(
            f"{one.name:10}{one.sent:>10,}{one.messages:>10,}{one.behind:>8,.0f}{one.rss_first:>10.1f}"
            f"{one.rss_last:>8.1f}{one.slope:>+8.1f}{one.cpu:>8.1f}{ratio:>7.2f}{one.dropped:>10,.0f}{asked:>10}"
        )
    return "\n".join(lines)
