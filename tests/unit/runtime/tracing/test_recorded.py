"""Spans that are recorded: whose children they are, what is on them, what is current within them."""

import pytest
from opentelemetry import trace as otel

from app.runtime.tracing import semconv
from app.runtime.tracing.context import SpanContext
from app.runtime.tracing.recorded import EVENTS, LINKS
from app.runtime.tracing.tracing import CURRENT, NO_SPAN, NO_TRACING, SpanKind
from tests.spans import REMOTE as PLAIN
from tests.spans import Recorded, attributes, ids, linked, parent

REMOTE = PLAIN._replace(tracestate="rojo=1")


@pytest.fixture
def recorded() -> Recorded:
    return Recorded(always=2)


def test_a_child_of_a_remote_span_is_in_its_trace(recorded: Recorded) -> None:
    span = recorded.tracing.span(semconv.WORKER_PROCESS, SpanKind.CONSUMER, REMOTE, {"user_id": "u1"}, start=1000)
    span.set({"sequence_id": 123, "messaging.system": "kafka"})
    span.end(5000)
    (found,) = recorded.spans()
    assert parent(found) == REMOTE[:2]
    assert (found.name, found.kind) == ("worker_process", otel.SpanKind.CONSUMER)
    assert (found.start_time, found.end_time) == (1000, 5000)
    assert attributes(found) == {"user_id": "u1", "sequence_id": 123, "messaging.system": "kafka"}
    assert span.context is not None
    assert span.context == SpanContext(*ids(found), span.context.flags, "rojo=1")
    assert span.context.sampled


def test_without_a_parent_a_trace_begins(recorded: Recorded) -> None:
    first, second = (recorded.tracing.span(semconv.BATCH_FLUSH) for _ in range(2))
    assert first.context is not None
    assert second.context is not None
    assert first.context.trace_id != second.context.trace_id
    first.end()
    second.end()
    assert [span.parent for span in recorded.spans()] == [None, None]


def test_what_is_not_sampled_is_recorded_when_asked_for(recorded: Recorded) -> None:
    """A dead letter of a message that its sender did not sample."""
    span = recorded.tracing.span(semconv.WORKER_PROCESS, parent=REMOTE._replace(flags=0))
    span.end()
    assert span.context is not None
    assert span.context.sampled
    assert len(recorded.spans()) == 1


def test_links_go_both_ways(recorded: Recorded) -> None:
    message = recorded.tracing.span(semconv.WORKER_PROCESS, parent=REMOTE)
    assert message.context is not None
    batch = recorded.tracing.span(semconv.BATCH_FLUSH, links=[message.context])
    assert batch.context is not None
    message.link(batch.context)
    batch.end()
    message.end()
    first, second = recorded.spans()
    assert linked(first) == [message.context[:2]]
    assert linked(second) == [batch.context[:2]]


def test_events_and_failures(recorded: Recorded) -> None:
    span = recorded.tracing.span(semconv.STORE_TELEMETRY_BATCH)
    span.event("retry", {"error.type": "40001"})
    span.fail("23514", "new row violates a check")
    span.end()
    (found,) = recorded.spans()
    assert [(event.name, dict(event.attributes or {})) for event in found.events] == [
        ("retry", {"error.type": "40001"})
    ]
    assert found.status.status_code is otel.StatusCode.ERROR
    assert found.status.description == "new row violates a check"
    assert attributes(found) == {"error.type": "23514"}


def test_within_a_span_its_ids_are_the_current_ones(recorded: Recorded) -> None:
    assert CURRENT.get() is None
    with recorded.tracing.span(semconv.NOTIFY) as outer:
        with recorded.tracing.span(semconv.ALERT_PUBLISH, parent=outer.context) as inner:
            assert CURRENT.get() is inner
            assert inner.context is not None
            assert otel.get_current_span().get_span_context().span_id == inner.context.span_id
        assert CURRENT.get() is outer
    assert CURRENT.get() is None
    assert otel.get_current_span() is otel.INVALID_SPAN
    assert [span.name for span in recorded.spans()] == ["alert_publish", "notify"]


def test_a_block_that_raises_fails_its_span(recorded: Recorded) -> None:
    with pytest.raises(ValueError, match="x"), recorded.tracing.span(semconv.NOTIFY):
        raise ValueError("x")
    (found,) = recorded.spans()
    assert found.status.status_code is otel.StatusCode.ERROR
    assert attributes(found) == {"error.type": "ValueError"}


def test_always_has_its_limit(recorded: Recorded) -> None:
    assert [recorded.tracing.always() for _ in range(3)] == [True, True, False]


def test_the_sender_decides_and_else_the_ratio() -> None:
    none, every = Recorded(0.0).tracing, Recorded(1.0).tracing
    assert none.samples(REMOTE)
    assert not none.samples(None)
    assert every.samples(None)
    assert not every.samples(REMOTE._replace(flags=0))


def test_a_span_ends_once(recorded: Recorded) -> None:
    span = recorded.tracing.span(semconv.BRIDGE)
    span.end(7)
    span.end(8)
    assert [found.end_time for found in recorded.spans()] == [7]


def test_links_and_events_have_their_bound(recorded: Recorded) -> None:
    span = recorded.tracing.span(semconv.BRIDGE, links=[REMOTE] * 200)
    for _ in range(200):
        span.event("retry")
    span.end()
    (found,) = recorded.spans()
    assert (len(found.links), len(found.events)) == (LINKS, EVENTS)


def test_off_nothing_is_sampled_and_spans_do_nothing() -> None:
    assert not NO_TRACING.enabled
    assert not NO_TRACING.samples(REMOTE)
    assert not NO_TRACING.samples(None)
    assert not NO_TRACING.always()
    with NO_TRACING.span(semconv.BRIDGE, parent=REMOTE, links=[REMOTE]) as span:
        assert span is NO_SPAN
        span.set({"a": 1})
        span.event("b")
        span.link(REMOTE)
        span.fail("c")
        assert CURRENT.get() is None
    assert span.context is None
    NO_TRACING.before_stop(pytest.fail)
    NO_TRACING.stop(1)
