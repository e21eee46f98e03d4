"""What is reached into of OpenTelemetry's SDK: its exporters send what is encoded already, its spans go our way."""

import time

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import StatusCode

from app.runtime.tracing.environment import GRPC, HTTP, ExportOptions
from app.runtime.tracing.provider import SdkTracing, resource_of, sdk_tracing
from app.runtime.tracing.sampling import AlwaysLimit, HeadSampling
from app.runtime.tracing.tracing import SpanKind
from tests.otlp import Mode, OtlpReceiver, receiver
from tests.spans import REMOTE
from tests.waiting import until


def exporting(collector: OtlpReceiver, protocol: str, monkeypatch: pytest.MonkeyPatch) -> SdkTracing:
    for name, value in collector.environment(protocol).items():
        monkeypatch.setenv(name, value)
    options = ExportOptions(protocol, delay=0.02)
    return sdk_tracing(options, HeadSampling(1), AlwaysLimit(1), {"service.name": "iot-stream-test"})


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
async def test_a_span_arrives_whole(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as collector:
        tracing = exporting(collector, protocol, monkeypatch)
        span = tracing.span("bridge", SpanKind.PRODUCER, REMOTE, {"user_id": "u1", "sequence_id": -5}, [REMOTE])
        span.event("retry", {"share": 0.5})
        span.fail("23514", "no")
        span.end()
        await until(lambda: collector.spans)
        tracing.stop(2)
        (found,) = collector.spans
    assert (found.name, found.kind, found.status, found.status_message) == ("bridge", "PRODUCER", "ERROR", "no")
    assert (found.trace_id, found.parent_id) == (f"{REMOTE.trace_id:032x}", f"{REMOTE.span_id:016x}")
    assert found.attributes == {"user_id": "u1", "sequence_id": -5, "error.type": "23514"}
    assert [link.span_id for link in found.links] == [found.parent_id]
    assert found.events == ("retry",)
    assert abs(found.end - time.time_ns()) < 60e9
    assert found.resource["service.name"] == "iot-stream-test"
    assert found.resource["telemetry.sdk.language"] == "python"


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
async def test_a_span_of_the_sdk_goes_the_same_way(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as collector:
        tracing = exporting(collector, protocol, monkeypatch)
        tracer = tracing.provider(ALWAYS_ON).get_tracer("aiokafka")
        with tracer.start_as_current_span("send t", attributes={"a": 1, "several": [1, 2]}) as above:
            tracer.start_span("inner").end()
            above.add_event("sent", {"b": True})
            above.set_status(StatusCode.OK)
        await until(lambda: len(collector.spans) == 2)
        tracing.stop(2)
        inner, outer = collector.spans
    assert inner.is_child_of(outer)
    assert (outer.attributes, outer.events, outer.status) == ({"a": 1}, ("sent",), "UNSET")


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
@pytest.mark.parametrize("mode", [Mode.FAIL, Mode.HANG])
def test_the_end_comes_in_time(protocol: str, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as collector:
        collector.mode = mode
        tracing = exporting(collector, protocol, monkeypatch)
        for _ in range(3000):
            tracing.span("bridge").end()
        time.sleep(0.2)
        begin = time.monotonic()
        tracing.stop(1)
        assert time.monotonic() - begin < 2.5
        assert collector.requests > 0


def test_the_resource_is_ours_where_the_environment_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    ours = {"service.name": "iot-stream-test", "service.namespace": "fleet1"}
    assert {**resource_of(ours).attributes, **ours} == resource_of(ours).attributes
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=theirs,deployment.environment.name=prod")
    assert resource_of(ours).attributes["service.name"] == "theirs"
    assert resource_of(ours).attributes["service.namespace"] == "fleet1"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "named")
    assert resource_of(ours).attributes["service.name"] == "named"
