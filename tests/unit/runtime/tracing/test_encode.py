"""What is encoded by hand is what OpenTelemetry's SDK encodes of an equal span, and protobuf can always read it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from app.runtime.tracing.context import SpanContext
from app.runtime.tracing.encode import encode_request, encode_span
from app.runtime.tracing.recorded import RecordedSpan
from app.runtime.tracing.tracing import SpanKind
from tests.spans import REMOTE, readable

ids = st.integers(1, (1 << 64) - 1)
contexts = st.builds(
    SpanContext, st.integers(1, (1 << 128) - 1), ids, st.sampled_from([0, 1]), st.sampled_from(["", "a=b"])
)
texts = st.text(st.characters(codec="utf-8"), max_size=200)
values = st.one_of(texts, st.integers(-(1 << 63), (1 << 63) - 1), st.booleans(), st.floats(allow_nan=False))
attributes = st.dictionaries(texts.filter(bool), values, max_size=5)


def span(parent: SpanContext | None = None, kind: SpanKind = SpanKind.CONSUMER) -> RecordedSpan:
    return RecordedSpan("worker_process", kind, parent, lambda _: None)


def theirs(made: RecordedSpan) -> Span:
    """As the SDK encodes it, without the flags that say whether its parent is remote, which we leave open."""
    found: Span = encode_spans([readable(made)]).resource_spans[0].scope_spans[0].spans[0]
    found.ClearField("flags")
    for link in found.links:
        link.ClearField("flags")
    if found.status == Status():
        found.ClearField("status")
    return found


@given(
    st.none() | contexts,
    st.sampled_from(SpanKind),
    attributes,
    st.lists(st.tuples(texts, attributes), max_size=3),
    st.lists(contexts, max_size=3),
    st.none() | texts,
    st.integers(0, (1 << 63) - 1),
)
def test_it_is_what_the_sdk_would_send(
    parent: SpanContext | None,
    kind: SpanKind,
    given_attributes: dict[str, str | int | float | bool],
    events: list[tuple[str, dict[str, str | int | float | bool]]],
    links: list[SpanContext],
    failure: str | None,
    started: int,
) -> None:
    made = span(parent, kind)
    made.set(given_attributes)
    for name, more in events:
        made.event(name, more)
    for link in links:
        made.link(link)
    if failure is not None:
        made.fail("ValueError", failure)
    made.started = started
    made.end(started + 5)
    assert Span.FromString(encode_span(made)) == theirs(made)


def test_a_request_holds_them_all() -> None:
    spans = [span(REMOTE) for _ in range(3)]
    for one in spans:
        one.end()
    request = ExportTraceServiceRequest.FromString(encode_request(spans, b"", b"\x0a\x01x"))
    (resource_spans,) = request.resource_spans
    (scope_spans,) = resource_spans.scope_spans
    assert scope_spans.scope.name == "x"
    assert [one.span_id for one in scope_spans.spans] == [one.context.span_id.to_bytes(8, "big") for one in spans]
    assert ExportTraceServiceRequest.FromString(encode_request([], b"", b"")).resource_spans[0].scope_spans


@pytest.mark.parametrize("text", ["\ud800é", "x" * 10_000, "\udfff" * 10_000, "\0\n", "ä" * 1000])
def test_hostile_texts_are_cut_and_can_be_read(text: str) -> None:
    made = span()
    made.set({"device_id": text})
    made.event(text, {"e": text})
    made.fail("bad_json", text)
    made.end()
    found = Span.FromString(encode_span(made))
    told = [found.attributes[0].value.string_value, found.events[0].name, found.status.message]
    assert all(len(one) <= 256 * len("\\ud800") for one in told)
    assert len(set(told)) == 1
    if text.isascii():
        assert told[0] == text[:256]


def test_a_clock_that_goes_back_makes_no_span_of_less_than_nothing() -> None:
    made = span()
    made.started = 100
    made.end(50)
    found = Span.FromString(encode_span(made))
    assert (found.start_time_unix_nano, found.end_time_unix_nano) == (100, 100)
