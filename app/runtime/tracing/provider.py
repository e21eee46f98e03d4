"""Tracing on OpenTelemetry's SDK: spans that are recorded, and exported over OTLP. Imported only when it is wanted."""

import os
from collections.abc import Iterable, Mapping
from contextvars import Token
from types import TracebackType
from typing import Self

import structlog
from opentelemetry import context as otel_context
from opentelemetry import trace as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from app.runtime.tracing import semconv
from app.runtime.tracing.context import SpanContext
from app.runtime.tracing.environment import HTTP, ExportOptions
from app.runtime.tracing.export import LastWords, SpanQueue
from app.runtime.tracing.sampling import AlwaysLimit, HeadSampling
from app.runtime.tracing.tracing import CURRENT, Attributes, SpanKind, TraceSpan, Tracing, Value

log = structlog.get_logger()

TEXT = 256  # characters of an attribute
_KINDS = {kind: otel.SpanKind(kind.value) for kind in SpanKind}


class SdkSpan(TraceSpan):
    """A span that is recorded."""

    __slots__ = ("_attached", "_entered", "_span", "context")

    def __init__(self, span: otel.Span) -> None:
        self._span = span
        found = span.get_span_context()
        state = found.trace_state.to_header() if found.trace_state else ""
        self.context = SpanContext(found.trace_id, found.span_id, int(found.trace_flags), state)

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._span.set_attributes(_clean(attributes))

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        """Something happened now."""
        self._span.add_event(name, _clean(attributes) if attributes else None)

    def link(self, context: SpanContext) -> None:
        """Refer to another span, also of another trace."""
        self._span.add_link(_otel_context(context))

    def fail(self, kind: str, description: str = "") -> None:
        """It failed: `kind` is a word of a bounded set (error.type), `description` for a human."""
        self._span.set_attribute(semconv.ERROR_TYPE, kind)
        self._span.set_status(otel.StatusCode.ERROR, _text(description) or None)

    def end(self, at: int | None = None) -> None:
        """It is over, now or at `at` (ns since 1970)."""
        self._span.end(at)

    def __enter__(self) -> Self:
        self._entered: Token[TraceSpan | None] = CURRENT.set(self)
        self._attached = otel_context.attach(otel.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        otel_context.detach(self._attached)
        CURRENT.reset(self._entered)
        if kind is not None:
            self.fail(kind.__name__, str(error))
        self.end()


class SdkTracing(Tracing):
    """Spans are recorded, and go to `processor`."""

    enabled = True

    def __init__(
        self, head: HeadSampling, limit: AlwaysLimit, resource: Mapping[str, str], processor: SpanProcessor
    ) -> None:
        """`resource`: what the program says of itself where OTEL_RESOURCE_ATTRIBUTES does not."""
        super().__init__(head)
        self._limit, self._processor = limit, processor
        self._resource = Resource(dict(resource)).merge(Resource.create())
        self._resource = self._resource.merge(Resource(_service(resource, self._resource)))
        # What is sampled is decided before a span is begun.
        self._tracer = self.provider(ALWAYS_ON).get_tracer("iot-stream")

    def provider(self, sampler: Sampler) -> TracerProvider:
        """A provider of tracers whose spans go the same way."""
        made = TracerProvider(sampler, self._resource, shutdown_on_exit=False)
        made.add_span_processor(self._processor)
        return made

    def always(self) -> bool:
        """Whether what went wrong gets a span though nothing sampled it; so many a second, the rest is counted."""
        return self._limit.allows()

    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: SpanContext | None = None,
        attributes: Attributes | None = None,
        links: Iterable[SpanContext] = (),
        start: int | None = None,
    ) -> TraceSpan:
        """Begin a span, which is recorded."""
        above = otel_context.Context()
        if parent is not None:
            above = otel.set_span_in_context(otel.NonRecordingSpan(_otel_context(parent)), above)
        return SdkSpan(
            self._tracer.start_span(
                name,
                above,
                _KINDS[kind],
                _clean(attributes) if attributes else None,
                [otel.Link(_otel_context(one)) for one in links],
                start,
            )
        )

    def stop(self, seconds: float) -> None:
        """Export what is left; returns after so many seconds at most."""
        if isinstance(self._processor, SpanQueue):
            self._processor.stop(seconds)


def sdk_tracing(options: ExportOptions, head: HeadSampling, limit: AlwaysLimit, resource: Mapping[str, str]) -> Tracing:
    """Tracing that exports over OTLP. Raises ImportError without the extra, ValueError for a variable OTEL_*."""
    words = LastWords()
    words.take_over()
    exporter = _exporter(options.protocol)
    if words.template:
        log.warning("tracing_configuration", what=words.template, note="a variable OTEL_EXPORTER_OTLP_* is ignored")
    return SdkTracing(head, limit, resource, SpanQueue(exporter, options, words))


def _exporter(protocol: str) -> SpanExporter:
    if protocol == HTTP:
        from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

        return http.OTLPSpanExporter()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it writes to standard error, past every log
    from opentelemetry.exporter.otlp.proto.grpc import exporter, trace_exporter

    try:
        return trace_exporter.OTLPSpanExporter()
    except exporter.InvalidCompressionValueException as error:
        raise ValueError(str(error)) from None


def _service(ours: Mapping[str, str], found: Resource) -> dict[str, str]:
    """Our name, where nobody has given another: the SDK then calls the service unknown."""
    named = str(found.attributes.get(semconv.SERVICE_NAME, ""))
    unknown = not named or named.startswith("unknown_service")
    return {semconv.SERVICE_NAME: ours[semconv.SERVICE_NAME]} if unknown else {}


def _otel_context(context: SpanContext) -> otel.SpanContext:
    state = otel.TraceState.from_header([context.tracestate]) if context.tracestate else None
    return otel.SpanContext(context.trace_id, context.span_id, True, otel.TraceFlags(context.flags), state)


def _clean(attributes: Attributes) -> dict[str, Value]:
    """What a device calls itself may be long, or no text that protobuf can hold: one such span would cost a batch."""
    return {name: _text(value) if type(value) is str else value for name, value in attributes.items()}


def _text(value: str) -> str:
    value = value[:TEXT]
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
