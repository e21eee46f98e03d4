"""Alert events in the order in which they are sent -> spans: each alert from its FIRING to its RESOLVED."""

from datetime import datetime

from msgspec import Struct

from app.core.model.alert_event import AlertEvent, Status, Value


class Span(Struct):
    """One alert, by its first event and what came of it. Times are event times."""

    alert_id: str
    user_id: str
    device_id: str
    rule_id: str
    severity: str  # of the last event
    value: Value  # that it fired with
    first_seen: datetime
    fired_at: datetime
    resolved_at: datetime | None = None
    events: int = 1  # events

    def seconds(self, now: datetime) -> float:
        """For how many seconds it was open; until `now` (aware) if it still is."""
        return ((self.resolved_at or now) - self.fired_at).total_seconds()


class Spans:
    """The alerts that are open."""

    def __init__(self) -> None:
        self.open: dict[str, Span] = {}  # by alert_id

    def add(self, event: AlertEvent) -> Span | None:
        """Take in an event, in the order in which they are sent; returns the span that it ended, None: it
        ended none.
        """
        span = self.open.get(event.alert_id)
        if span is None:
            self.open[event.alert_id] = _begun(event)
            return None
        span.events += 1
        span.severity = event.severity
        if event.status is not Status.RESOLVED:
            return None
        span.resolved_at = event.event_time
        return self.open.pop(event.alert_id)


def _begun(event: AlertEvent) -> Span:
    ids = (event.alert_id, event.user_id, event.device_id, event.rule_id)
    return Span(*ids, event.severity, event.value, event.first_seen, event.event_time)
