"""A rule set tried on stored readings, page by page -> a summary of the alerts that it would have sent."""

from collections.abc import Iterable
from datetime import datetime

from app.backtest.alert_spans import Spans
from app.backtest.dry_run import DryRun
from app.backtest.summary import Summary
from app.core.model.records import Reading
from app.core.rules.globs import Globs
from app.core.rules.rule import RuleSet
from app.core.schema.schema import Schema


class Backtest:
    """A rule set tried on the devices that a glob takes in, between two times."""

    def __init__(self, rules: RuleSet, schema: Schema, glob: str, begin: datetime, end: datetime) -> None:
        """`rules` are compiled for `schema`; `begin` and `end` are aware."""
        self.rules, self._glob, self._globs = rules, glob, Globs([glob])
        self.dry_run, self.summary = DryRun(rules, schema), Summary(begin, end)
        self._spans = Spans()
        self._wanted: dict[str, bool] = {}  # by device

    @property
    def prefix(self) -> str:
        """What every id that the glob takes in begins with."""
        return self._glob[: next((at for at, char in enumerate(self._glob) if char in "*?["), len(self._glob))]

    def take(self, readings: Iterable[Reading]) -> None:
        """Take the next readings; each device's have to come in the order of their time."""
        wanted, rehearse, add = self._wanted, self.dry_run.take, self._spans.add
        for reading in readings:
            device = reading.device_id
            if device not in wanted:
                wanted[device] = self._globs.takes_in(device)
            if wanted[device]:
                for event in rehearse(reading):
                    if (ended := add(event)) is not None:
                        self.summary.add(ended)

    def finish(self) -> None:
        """Count what is still open, after the last reading."""
        for span in self._spans.open.values():
            self.summary.add(span)

    def share(self, time: datetime) -> float:
        """How much of the stretch is over at that time, 0 to 1."""
        return (time - self.summary.begin) / (self.summary.end - self.summary.begin)
