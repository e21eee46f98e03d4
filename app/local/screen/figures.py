"""The worker's metrics as the few figures a person watches: pure, the text of /metrics comes in."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class ScreenFigures:
    """Counts since the worker's start; lag is now."""

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    dropped: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)  # by reason
    alerts: Mapping[str, int] = field(default_factory=dict)  # by status
    lag: int = 0
    breaker: float = 0.0  # 1 open, 0.5 half-open, 0 closed

    @property
    def dead(self) -> int:
        """Dead letters of every reason."""
        return sum(self.dead_letters.values())

    def rate_since(self, earlier: "ScreenFigures", seconds: float) -> float:
        """Messages a second between two looks; 0 when the worker was started again in between."""
        return max(0.0, (self.received - earlier.received) / seconds) if seconds > 0 else 0.0


def read_figures(text: str) -> ScreenFigures:
    """Parse the text of /metrics; a metric that is not on the page counts 0. Raises ValueError for any other text."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(name: str) -> float:
        return sum(sample.value for sample in samples if sample.name == name)

    def by(name: str, label: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        for sample in samples:
            if sample.name == name:
                counts[sample.labels[label]] = counts.get(sample.labels[label], 0) + int(sample.value)
        return counts

    return ScreenFigures(
        received=int(total("iot_messages_received_total")),
        stored=int(total("iot_rows_stored_total")),
        duplicate=int(total("iot_rows_duplicate_total")),
        dropped=int(total("iot_dropped_total")),
        dead_letters=by("iot_dead_letters_total", "reason"),
        alerts=by("iot_alerts_total", "status"),
        lag=int(total("iot_consumer_lag")),
        breaker=total("db_circuit_breaker_state"),
    )
