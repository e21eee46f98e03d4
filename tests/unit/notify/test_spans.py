"""The span `notify`: of events whose context is sampled, within a budget, and of events that are left out."""

from datetime import UTC, datetime

import msgspec
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from app.core.ingress.trace_budget import TraceBudget
from app.core.model.alert_event import AlertEvent, Severity, Status, to_json
from app.notify.alert_records import AlertRecord
from app.notify.spans import NotifySpans
from app.runtime.tracing.tracing import NO_SPAN, NO_TRACING
from tests.spans import Recorded

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, NOT_SAMPLED = (f"00-{TRACE}-00f067aa0ba902b7-{flags}" for flags in ("01", "00"))
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def found(traceparent: str | msgspec.UnsetType, *headers: tuple[str, bytes]) -> AlertRecord:
    """A record of the alert topic, with the context of its event."""
    event = AlertEvent(
        "a1", "u1", "d1", "r1", Status.FIRING, Severity.WARNING, "m", 41.5, 40, NOW, NOW, traceparent=traceparent
    )
    return AlertRecord(0, "u1", "users/u1/alerts", to_json(event), event, headers)


def test_an_event_s_span_is_a_child_of_its_context() -> None:
    recorded = Recorded(0.0)
    spans = NotifySpans(recorded.tracing, TraceBudget(10))
    record = found(SAMPLED)
    span = spans.begin(record, 1_000)
    spans.end(span, record, 1_000, None)
    (made,) = recorded.spans()
    assert (made.name, made.kind, made.start_time) == ("notify", SpanKind.PRODUCER, 1_000)
    assert made.parent is not None
    assert f"00-{made.parent.trace_id:032x}-{made.parent.span_id:016x}-01" == SAMPLED
    attributes = dict(made.attributes or {})
    assert attributes["messaging.destination.name"] == "users/u1/alerts"
    assert (attributes["user_id"], attributes["device_id"], attributes["iot.alert.id"]) == ("u1", "d1", "a1")
    assert span.context is not None
    assert span.context.trace_id == int(TRACE, 16)


def test_the_worker_s_span_comes_before_the_message_s() -> None:
    alert_publish = SAMPLED.replace("00f067aa0ba902b7", "1111111111111111")
    for header in (alert_publish, "nonsense"):
        recorded = Recorded()
        spans = NotifySpans(recorded.tracing, TraceBudget(10))
        spans.begin(found(SAMPLED, ("traceparent", header.encode())), 1_000).end()
        (made,) = recorded.spans()
        assert made.parent is not None
        assert made.parent.span_id == int((alert_publish if header == alert_publish else SAMPLED)[36:52], 16)


@pytest.mark.parametrize("traceparent", [NOT_SAMPLED, "nonsense", "\ud7ff", msgspec.UNSET])
def test_no_span_without_a_sampled_context_but_of_what_is_left_out(traceparent: str | msgspec.UnsetType) -> None:
    recorded = Recorded(1.0)
    spans, record = NotifySpans(recorded.tracing, TraceBudget(10)), found(traceparent)
    span = spans.begin(record, 1_000)
    assert span is NO_SPAN
    spans.end(span, record, 1_000, None)
    assert recorded.spans() == []
    spans.end(span, record, 1_000, "the broker refuses it")
    (made,) = recorded.spans()
    assert (made.status.status_code, made.status.description) == (StatusCode.ERROR, "the broker refuses it")
    assert made.start_time == 1_000


def test_no_more_than_the_budget() -> None:
    recorded = Recorded()
    spans = NotifySpans(recorded.tracing, TraceBudget(4))
    made = [spans.begin(found(SAMPLED), 1_000) for _ in range(100)]
    assert 2 <= sum(span is not NO_SPAN for span in made) <= 4, "two a second of one user"


def test_without_tracing_there_is_none() -> None:
    spans, record = NotifySpans(NO_TRACING, TraceBudget(10)), found(SAMPLED)
    assert spans.begin(record, 1_000) is NO_SPAN
    spans.end(NO_SPAN, record, 1_000, "refused")
