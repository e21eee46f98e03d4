"""Tracing whose spans are gathered, for tests, and read as those of OpenTelemetry's SDK are."""

from opentelemetry import trace as otel
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Status, StatusCode

from app.runtime.tracing.context import SpanContext
from app.runtime.tracing.recorded import RecordedSpan, RecordedTracing, otel_span_context
from app.runtime.tracing.sampling import AlwaysLimit, HeadSampling

# What a device sends that has its own tracing, sampled and not.
SAMPLED = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOT_SAMPLED = SAMPLED[:-2] + b"00"
REMOTE = SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7)


class Recorded:
    """`ratio` of messages without a context are sampled; `always` spans a second beside them."""

    def __init__(self, ratio: float = 0.0, always: float = 100.0, head: HeadSampling | None = None) -> None:
        self.ended: list[RecordedSpan] = []
        self.tracing = RecordedTracing(head or HeadSampling(ratio), AlwaysLimit(always), self.ended.append)

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """The spans that have ended, in that order."""
        return [readable(span) for span in self.ended if name in (None, span.name)]


def readable(span: RecordedSpan) -> ReadableSpan:
    """The same as the SDK would have made it."""
    return ReadableSpan(
        span.name,
        otel_span_context(span.context),
        otel_span_context(span.parent) if span.parent else None,
        attributes=span.attributes,
        events=[Event(event.name, event.attributes, event.at) for event in span.events],
        links=[otel.Link(otel_span_context(link)) for link in span.links],
        kind=otel.SpanKind(span.kind.value),
        status=Status(StatusCode.ERROR, span.description or None) if span.failed else Status(),
        start_time=span.started,
        end_time=span.ended,
    )


def attributes(span: ReadableSpan) -> dict[str, object]:
    """Of a span."""
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[int, int]:
    """Trace id and span id."""
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    """The ids of the span's parent."""
    return (span.parent.trace_id, span.parent.span_id) if span.parent else None


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    """The ids of the spans that the span has links to."""
    return [(link.context.trace_id, link.context.span_id) for link in span.links]
