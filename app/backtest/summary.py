"""Spans in, figures out: how often each rule alerted on each device, for how long, and when."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct

from app.backtest.alert_spans import Span

FLAP = timedelta(minutes=5)  # an alert that fires so soon after the last one was resolved
BINS = 60  # of time; that many blocks are drawn in a line


class RuleFigures(Struct):
    """The alerts of one rule on one device."""

    rule_id: str
    device_id: str
    alerts: int = 0
    open: int = 0  # at the end
    flaps: int = 0  # alerts less than FLAP after the one before
    seconds: float = 0.0  # open, together
    longest: float = 0.0  # seconds


class Summary:
    """The alerts between two times; those of one rule and device have to come in order."""

    def __init__(self, begin: datetime, end: datetime) -> None:
        self.begin, self.end = begin, end
        self._figures: dict[tuple[str, str, str], RuleFigures] = {}
        self._ended: dict[tuple[str, str, str], datetime] = {}
        self.over_time: dict[str, list[int]] = {}  # rule -> alerts that fired in each of BINS equal parts

    def add(self, span: Span) -> None:
        """Count an alert that is over, or, after all others, one that is open."""
        key = (span.user_id, span.device_id, span.rule_id)
        figures = self._figures.get(key)
        if figures is None:
            figures = self._figures[key] = RuleFigures(span.rule_id, span.device_id)
        seconds = span.seconds(self.end)
        figures.alerts += 1
        figures.open += span.resolved_at is None
        figures.seconds += seconds
        figures.longest = max(figures.longest, seconds)
        ended = self._ended.get(key)
        figures.flaps += ended is not None and span.fired_at - ended < FLAP
        if span.resolved_at is not None:
            self._ended[key] = span.resolved_at
        self.over_time.setdefault(span.rule_id, [0] * BINS)[self._bin(span.fired_at)] += 1

    @property
    def figures(self) -> list[RuleFigures]:
        """The figures of each rule and device, those with the most alerts first."""
        return sorted(self._figures.values(), key=lambda one: (-one.alerts, -one.seconds, one.rule_id, one.device_id))

    def of_rules(self, rule_ids: Iterable[str]) -> list[RuleFigures]:
        """The figures of each rule, in the order given; `device_id` is the number of devices that it alerted on."""
        return [self._of_rule(rule_id) for rule_id in rule_ids]

    def _of_rule(self, rule_id: str) -> RuleFigures:
        parts = [one for one in self._figures.values() if one.rule_id == rule_id]
        sums = (sum(one.alerts for one in parts), sum(one.open for one in parts), sum(one.flaps for one in parts))
        seconds = sum(one.seconds for one in parts)
        return RuleFigures(rule_id, str(len(parts)), *sums, seconds, max((one.longest for one in parts), default=0.0))

    def _bin(self, time: datetime) -> int:
        share = (time - self.begin) / max(self.end - self.begin, timedelta(microseconds=1))
        return min(max(int(share * BINS), 0), BINS - 1)
