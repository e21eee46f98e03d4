"""Spans as the SDK records them: whose children they are, what is on them, what log lines within them are given."""

import pytest
from opentelemetry import trace as otel

from app.runtime.tracing import semconv
from app.runtime.tracing.context import SpanContext
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
    assert found.parent is not None
    assert found.parent.is_remote
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


def test_hostile_names_are_cut_and_can_be_encoded(recorded: Recorded) -> None:
    span = recorded.tracing.span(semconv.BRIDGE, attributes={"user_id": "\ud800é", "device_id": "x" * 10_000})
    span.fail("bad_json", "\udfff" * 10_000)
    span.end()
    (found,) = recorded.spans()
    assert found.attributes is not None
    assert found.attributes["user_id"] == "\\ud800é"
    assert found.attributes["device_id"] == "x" * 256
    assert found.status.description is not None
    found.status.description.encode()


def test_always_has_its_limit(recorded: Recorded) -> None:
    assert [recorded.tracing.always() for _ in range(3)] == [True, True, False]


def test_the_sender_decides_and_else_the_ratio() -> None:
    none, every = Recorded(0.0).tracing, Recorded(1.0).tracing
    assert none.samples(REMOTE)
    assert not none.samples(None)
    assert every.samples(None)
    assert not every.samples(REMOTE._replace(flags=0))


def test_the_resource_is_ours_where_the_environment_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    assert _service() == "iot-stream-test"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=theirs,deployment.environment.name=prod")
    assert _service() == "theirs"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "named")
    assert _service() == "named"


def _service() -> object:
    recorded = Recorded()
    recorded.tracing.span(semconv.BRIDGE).end()
    attributes = recorded.spans()[0].resource.attributes
    assert attributes["telemetry.sdk.language"] == "python"
    return attributes["service.name"]


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
    NO_TRACING.stop(1)
