"""Tracing over OTLP: exporters, resource and providers come from OpenTelemetry's SDK. Imported only when wanted.

The exporters are given requests that are encoded already (encode.py); for that they are reached into at three places,
which tests/unit/runtime/tracing/test_provider.py watches.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler

from app.runtime.tracing import semconv
from app.runtime.tracing.context import SpanContext
from app.runtime.tracing.encode import encode_request
from app.runtime.tracing.environment import HTTP, ExportOptions
from app.runtime.tracing.export import LastWords, SpanExport, SpanQueue
from app.runtime.tracing.recorded import RecordedSpan, RecordedTracing, SpanEvent, Take, otel_span_context
from app.runtime.tracing.sampling import AlwaysLimit, HeadSampling
from app.runtime.tracing.tracing import SpanKind, Value

log = structlog.get_logger()

SCOPE = InstrumentationScope(name="iot-stream").SerializeToString()


@dataclass(frozen=True, slots=True)
class EncodedSpans:
    """What the exporters are given in the place of spans."""

    count: int  # spans in the request
    request: bytes  # ExportTraceServiceRequest, encoded


class OtlpExport:
    """export.SpanExport over one of the SDK's exporters."""

    def __init__(self, exporter: SpanExporter, resource: Resource) -> None:
        self._exporter, self._resource = exporter, encoded_resource(resource)

    def send(self, spans: Sequence[RecordedSpan]) -> bool:
        """Export a batch; whether the collector took it, after all tries of the exporter (10 s by default)."""
        data: Any = EncodedSpans(len(spans), encode_request(spans, self._resource, SCOPE))
        return self._exporter.export(data) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """End what is under way; has been seen to take 12 s."""
        self._exporter.shutdown()


class SdkTracing(RecordedTracing):
    """RecordedTracing that can also give tracers of the SDK to what asks for them (aiokafka.py)."""

    def __init__(self, head: HeadSampling, limit: AlwaysLimit, queue: SpanQueue, resource: Resource) -> None:
        super().__init__(head, limit, queue.put, queue.stop)
        self.resource = resource

    def provider(self, sampler: Sampler) -> TracerProvider:
        """A provider of the SDK's tracers, whose spans go the same way as ours; `sampler` decides which are
        recorded.
        """
        made = TracerProvider(sampler, self.resource, shutdown_on_exit=False)
        made.add_span_processor(_Recorder(self._take))
        return made


class _Recorder(SpanProcessor):
    def __init__(self, take: Take) -> None:
        self._take = take

    def on_end(self, span: ReadableSpan) -> None:
        self._take(recorded(span))


def recorded(span: ReadableSpan) -> RecordedSpan:
    """A span of the SDK that has ended, as a RecordedSpan; attributes that are lists are left out."""
    parent = _ours(span.parent) if span.parent else None
    made = RecordedSpan(span.name, SpanKind(span.kind.value), parent, lambda _: None)
    if span.context:
        made.context = _ours(span.context)
    made.started, made.ended = span.start_time or 0, span.end_time or 0
    made.set(_simple(span.attributes))
    made.links = [_ours(link.context) for link in span.links]
    made.events = [SpanEvent(event.name, event.timestamp, _simple(event.attributes)) for event in span.events]
    made.failed, made.description = not span.status.is_ok, span.status.description or ""
    return made


def sdk_tracing(options: ExportOptions, head: HeadSampling, limit: AlwaysLimit, ours: Mapping[str, str]) -> SdkTracing:
    """Tracing that exports over OTLP; `ours` is what the program says of itself where the variables do not.

    Raises ImportError without the extra, ValueError for a variable OTEL_*.
    """
    words = LastWords()
    words.take_over()
    resource = resource_of(ours)
    export: SpanExport = OtlpExport(_exporter(options.protocol), resource)
    if words.template:
        log.warning("tracing_configuration", what=words.template, note="a variable OTEL_EXPORTER_OTLP_* is ignored")
    return SdkTracing(head, limit, SpanQueue(export, options, words), resource)


def resource_of(ours: Mapping[str, str]) -> Resource:
    """The resource of this process: the attributes that OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME give, over
    `ours`.

    `ours` has at least service.name, which counts where the variables name no service (the SDK would call it unknown);
    raises KeyError without service.name.
    """
    found = Resource(dict(ours)).merge(Resource.create())
    named = str(found.attributes.get(semconv.SERVICE_NAME, ""))
    if not named or named.startswith("unknown_service"):
        found = found.merge(Resource({semconv.SERVICE_NAME: ours[semconv.SERVICE_NAME]}))
    return found


def encoded_resource(resource: Resource) -> bytes:
    """The bytes of the message Resource, as the SDK encodes it."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    span = ReadableSpan("", otel_span_context(SpanContext(1, 1)), resource=resource)
    return bytes(encode_spans([span]).resource_spans[0].resource.SerializeToString())


def _exporter(protocol: str) -> SpanExporter:
    if protocol == HTTP:
        from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

        class HttpExporter(http.OTLPSpanExporter):
            """Posts what is encoded already."""

            def export(self, spans: Any) -> SpanExportResult:
                taken = not self._shutdown and self._client.export(spans.request).success
                return SpanExportResult.SUCCESS if taken else SpanExportResult.FAILURE

        return HttpExporter()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC writes to standard error, past every log
    from opentelemetry.exporter.otlp.proto.grpc import exporter, trace_exporter

    class GrpcExporter(trace_exporter.OTLPSpanExporter):
        """Calls with what is encoded already."""

        def _translate_data(self, data: Any) -> ExportTraceServiceRequest:
            made: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(data.request)
            return made

        def _count_data(self, data: Any) -> int:
            return int(data.count)

    try:
        return GrpcExporter()
    except exporter.InvalidCompressionValueException as error:
        raise ValueError(str(error)) from None


def _ours(context: Any) -> SpanContext:
    state = context.trace_state.to_header() if context.trace_state else ""
    return SpanContext(context.trace_id, context.span_id, int(context.trace_flags), state)


def _simple(attributes: Mapping[str, Any] | None) -> dict[str, Value]:
    return {name: value for name, value in (attributes or {}).items() if isinstance(value, str | int | float)}
