"""Tracing whose spans are kept, for tests: the real SDK with its own exporter in memory."""

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.runtime.tracing.context import SpanContext
from app.runtime.tracing.provider import SdkTracing
from app.runtime.tracing.sampling import AlwaysLimit, HeadSampling

# What a device sends that has its own tracing, sampled and not.
SAMPLED = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOT_SAMPLED = SAMPLED[:-2] + b"00"
REMOTE = SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7)


class Recorded:
    """`ratio` of messages without a context are sampled; `always` spans a second beside them."""

    def __init__(self, ratio: float = 0.0, always: float = 100.0, head: HeadSampling | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        processor = SimpleSpanProcessor(self._exporter)
        resource = {"service.name": "iot-stream-test"}
        self.tracing = SdkTracing(head or HeadSampling(ratio), AlwaysLimit(always), resource, processor)

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Those that have ended, in that order."""
        return [span for span in self._exporter.get_finished_spans() if name in (None, span.name)]


def attributes(span: ReadableSpan) -> dict[str, object]:
    """Of a span."""
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[int, int]:
    """Trace id and span id."""
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    """Those of its parent."""
    return (span.parent.trace_id, span.parent.span_id) if span.parent else None


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    """Those of the spans it has links to."""
    return [(link.context.trace_id, link.context.span_id) for link in span.links]
