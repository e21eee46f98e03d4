"""The memory of spans that no collector took is free again, though cycles are seldom looked for (allocator.py)."""

import gc
from collections.abc import Iterator

import pytest

from app.runtime.tracing.environment import GRPC, HTTP, ExportOptions
from app.runtime.tracing.metrics import SPANS_DROPPED
from app.runtime.tracing.provider import EncodedSpans, SdkTracing, sdk_tracing
from app.runtime.tracing.recorded import RecordedSpan
from app.runtime.tracing.sampling import AlwaysLimit, HeadSampling
from tests.otlp import closed_endpoint, environment
from tests.waiting import until

SPANS = 100


def alive(kind: type) -> int:
    return sum(isinstance(one, kind) for one in gc.get_objects())


def dropped() -> float:
    return float(SPANS_DROPPED._value.get())


@pytest.fixture
def no_look_for_cycles() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_look_for_cycles")
@pytest.mark.parametrize("protocol", [GRPC, HTTP])
async def test_dropped_spans_are_not_kept_by_what_failed(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (environment(closed_endpoint(), protocol) | {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}).items():
        monkeypatch.setenv(name, value)
    options = ExportOptions(protocol, batch=SPANS, delay=0.02)
    tracing = sdk_tracing(options, HeadSampling(1), AlwaysLimit(1), {"service.name": "iot-stream-test"})
    spans, requests = alive(RecordedSpan), alive(EncodedSpans)
    await fail(tracing)
    await until(lambda: alive(RecordedSpan) <= spans and alive(EncodedSpans) <= requests)
    await fail(tracing)  # within a minute of the first: no line is logged, and cycles are not looked for
    await until(lambda: alive(RecordedSpan) <= spans)
    tracing.stop(2)


async def fail(tracing: SdkTracing) -> None:
    """Return once a batch is dropped."""
    wanted = dropped() + SPANS
    for _ in range(SPANS):
        tracing.span("bridge").end()
    await until(lambda: dropped() == wanted)
