"""The books of one sink: counts of all records read, by outcome, and the metrics of these counts."""

from collections import Counter
from typing import Any

from app.runtime.flushes import Flushes
from app.sinks import sink_metrics as metrics
from app.sinks.cardinality.limits import SINK, TENANT, SeriesLimit
from app.sinks.decode import SinkDecoder
from app.sinks.port import Held

OUTCOMES = ("written", "refused", "filtered", "skipped", "dropped_cardinality", "revoked")
TOP = 20


class SinkBooks:
    """Counts since the start. received = the sum of OUTCOMES + the buffered records."""

    def __init__(self, sink: str) -> None:
        self._sink = sink
        self.received = 0
        self.outcomes: Counter[str] = Counter()
        self.flushes = Flushes()
        self._received: Any = metrics.RECEIVED.labels(sink)
        self._outcomes = {outcome: metrics.RECORDS.labels(sink, outcome) for outcome in OUTCOMES}
        self._series_dropped = {limit: metrics.SERIES_DROPPED.labels(sink, limit) for limit in (SINK, TENANT)}
        self._noted: Counter[str] = Counter()  # counts of other objects that the metrics include already
        self._shown: set[tuple[str, str]] = set()  # users with a gauge among the top users
        for gauge in (metrics.LAG, metrics.WAITING, metrics.HELD_RECORDS, metrics.HELD_BYTES, metrics.PAUSED):
            gauge.labels(sink).set(0)
        for counter in (metrics.LOGS_ANEW, metrics.MISSED):
            counter.labels(sink)  # exported as 0 from the start, so that the first event is an increase

    def read(self, records: int) -> None:
        """Count records that were read."""
        self.received += records
        self._received.inc(records)

    def count(self, outcome: str, records: int) -> None:
        """Count records with their outcome, which is one of OUTCOMES."""
        if records:
            self.outcomes[outcome] += records
            self._outcomes[outcome].inc(records)

    def decoded(self, decoder: SinkDecoder) -> None:
        """Take over the counts of the decoder."""
        self.count("filtered", decoder.filtered - self.outcomes["filtered"])
        for reason, count in decoder.skipped.items():
            more = count - self._noted[reason]
            if more:
                self._noted[reason] = count
                metrics.SKIPPED.labels(self._sink, reason).inc(more)
                self.count("skipped", more)

    def flushed(self, records: int, seconds: float) -> None:
        """Count the records that a flush has written in `seconds`."""
        self.count("written", records)
        self.flushes.add(records, seconds)
        metrics.FLUSH_SECONDS.labels(self._sink).observe(seconds)

    def failed(self, step: str) -> None:
        """Count a step that failed and is retried."""
        metrics.FAILURES.labels(self._sink, step).inc()

    def balance(self, held: int) -> int:
        """received - all outcomes - `held`; 0 when the books balance."""
        return self.received - sum(self.outcomes.values()) - held

    def show(self, held: Held, oldest_ms: int | None, now: float) -> None:
        """Export the size of the buffer and the age of its oldest record; `now` in seconds since 1970."""
        metrics.HELD_RECORDS.labels(self._sink).set(held.records)
        metrics.HELD_BYTES.labels(self._sink).set(held.bytes)
        metrics.WAITING.labels(self._sink).set(0 if oldest_ms is None else max(0.0, now - oldest_ms / 1000))

    def show_series(self, limit: SeriesLimit, most: int) -> None:
        """Export the number of series, and the top users; `most`: the limit of the sink."""
        metrics.SERIES.labels(self._sink).set(limit.count)
        metrics.SERIES_LIMIT.labels(self._sink).set(most)
        for name, count in limit.over.items():
            self._series_dropped[name].inc(count - self._noted[f"series {name}"])
            self._noted[f"series {name}"] = count
        shown = {("series", user): (metrics.TOP_SERIES, count) for user, count in limit.top(TOP)}
        shown |= {("dropped", user): (metrics.TOP_DROPPED, int(n)) for user, n in limit.offenders.top(TOP)}
        for what, user in self._shown - set(shown):
            gauge = metrics.TOP_SERIES if what == "series" else metrics.TOP_DROPPED
            gauge.remove(self._sink, user)
        for (_, user), (gauge, count) in shown.items():
            gauge.labels(self._sink, user).set(count)
        self._shown = set(shown)
