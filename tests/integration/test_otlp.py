"""The OTLP receiver of the tests, asked by the real exporters: what is sent is what it says it got."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanKind, StatusCode

from tests.otlp import Mode, OtlpReceiver, closed_endpoint, receiver

Make = Callable[[OtlpReceiver, float], SpanExporter]


def grpc_exporter(to: OtlpReceiver, timeout: float) -> SpanExporter:
    return GrpcExporter(endpoint=to.grpc_endpoint, insecure=True, timeout=timeout)


def http_exporter(to: OtlpReceiver, timeout: float) -> SpanExporter:
    return HttpExporter(endpoint=f"{to.http_endpoint}/v1/traces", timeout=timeout)


@pytest.fixture
def otlp() -> Iterator[OtlpReceiver]:
    with receiver() as made:
        yield made


@pytest.fixture(params=[grpc_exporter, http_exporter], ids=["grpc", "http"])
def make(request: pytest.FixtureRequest) -> Make:
    found: Make = request.param
    return found


def a_span() -> ReadableSpan:
    provider = TracerProvider(shutdown_on_exit=False)
    span = provider.get_tracer("t").start_span("x")
    span.end()
    assert isinstance(span, ReadableSpan)
    return span


def test_a_span_arrives_whole(otlp: OtlpReceiver, make: Make) -> None:
    provider = TracerProvider(resource=Resource({"service.name": "s"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(make(otlp, 5)))
    tracer = provider.get_tracer("t")
    parent = tracer.start_span("parent", kind=SpanKind.PRODUCER, attributes={"device_id": "d", "n": 1 << 40})
    with tracer.start_as_current_span("child", links=[Link(parent.get_span_context(), {"a": True})]) as child:
        child.add_event("seen")
        child.set_status(StatusCode.ERROR, "why")
    parent.end()
    provider.shutdown()
    (found,), (linked,) = otlp.named("parent", device_id="d"), otlp.named("child")
    assert (found.kind, found.attributes["n"], found.resource["service.name"]) == ("PRODUCER", 1 << 40, "s")
    assert (found.parent_id, found.status) == ("", "UNSET")
    assert int(found.trace_id, 16) == parent.get_span_context().trace_id
    assert linked.links_to(found)
    assert (linked.links[0].attributes, linked.events) == ({"a": True}, ("seen",))
    assert (linked.status, linked.status_message) == ("ERROR", "why")
    assert linked.start <= linked.end
    assert otlp.dangling() == []
    assert otlp.trace(found.trace_id) == [found]
    assert otlp.named("parent", device_id="other") == []


def test_a_link_to_nothing_received_dangles(otlp: OtlpReceiver, make: Make) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    lost = provider.get_tracer("t").start_span("lost")
    provider.add_span_processor(SimpleSpanProcessor(make(otlp, 5)))
    provider.get_tracer("t").start_span("x", links=[Link(lost.get_span_context())]).end()
    provider.shutdown()
    assert [int(link.span_id, 16) for link in otlp.dangling()] == [lost.get_span_context().span_id]


def test_one_that_fails_keeps_nothing(otlp: OtlpReceiver, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    otlp.mode = Mode.FAIL
    exporter = make(otlp, 0.5)
    assert exporter.export([a_span()]) is SpanExportResult.FAILURE
    exporter.shutdown()
    assert otlp.requests > 0
    assert otlp.spans == []


def test_one_that_hangs_answers_only_when_it_is_let_go(otlp: OtlpReceiver, make: Make) -> None:
    otlp.mode = Mode.HANG
    exporter = make(otlp, 20)
    results: list[SpanExportResult] = []
    thread = threading.Thread(target=lambda: results.append(exporter.export([a_span()])))
    thread.start()
    deadline = time.monotonic() + 10
    while not otlp.requests and time.monotonic() < deadline:
        time.sleep(0.01)
    thread.join(0.3)
    assert thread.is_alive()
    assert (otlp.requests, otlp.spans) == (1, [])
    otlp.mode = Mode.TAKE
    thread.join(10)
    exporter.shutdown()
    assert results == [SpanExportResult.SUCCESS]
    assert len(otlp.spans) == 1


def test_a_slow_one_takes_its_time(otlp: OtlpReceiver, make: Make) -> None:
    otlp.mode = Mode.SLOW
    exporter, began = make(otlp, 5), time.monotonic()
    assert exporter.export([a_span()]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert time.monotonic() - began > 0.4
    assert len(otlp.spans) == 1


def test_one_that_is_away_refuses(caplog: pytest.LogCaptureFixture) -> None:
    exporter: SpanExporter = HttpExporter(endpoint=f"{closed_endpoint()}/v1/traces", timeout=0.5)
    assert exporter.export([a_span()]) is SpanExportResult.FAILURE
    exporter.shutdown()
