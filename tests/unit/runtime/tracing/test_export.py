"""The queue of spans never waits, has a bound, counts what it drops and ends in time, whatever the exporter does."""

import logging
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial

import pytest
import structlog

from app.runtime.tracing.environment import GRPC, ExportOptions
from app.runtime.tracing.export import LastWords, SpanQueue
from app.runtime.tracing.metrics import SPANS_DROPPED
from app.runtime.tracing.recorded import RecordedSpan
from app.runtime.tracing.tracing import SpanKind
from tests.waiting import until

SPAN = RecordedSpan("bridge", SpanKind.INTERNAL, None, lambda _: None)


class Exporter:
    """Keeps what it is given, fails, raises, or hangs until it is closed."""

    def __init__(self, answer: bool | Exception = True, hangs: bool = False) -> None:
        self.answer, self.hangs = answer, hangs
        self.sizes: list[int] = []
        self.closed = threading.Event()
        self.close_seconds = 0.0

    def send(self, spans: Sequence[RecordedSpan]) -> bool:
        self.sizes.append(len(spans))
        if self.hangs:
            self.closed.wait(30)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def has_seen(self, batches: int) -> bool:
        return len(self.sizes) == batches

    def close(self) -> None:
        time.sleep(self.close_seconds)
        self.closed.set()


def queue(exporter: Exporter, size: int = 2048, batch: int = 512, delay: float = 0.01) -> SpanQueue:
    return SpanQueue(exporter, ExportOptions(GRPC, queue=size, batch=batch, delay=delay), LastWords())


def dropped() -> float:
    return float(SPANS_DROPPED._value.get())


def test_one_thread_sends_however_many_end_the_first_spans_at_once() -> None:
    """A thread that the end does not know of would still send when the process is gone."""
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            made, barrier = queue(Exporter()), threading.Barrier(20)

            def put(made: SpanQueue, barrier: threading.Barrier) -> None:
                barrier.wait(10)
                made.put(SPAN)

            threads = [threading.Thread(target=put, args=(made, barrier)) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            assert sum(one.name == "trace-export" for one in threading.enumerate()) == 1
            made.stop(5)
    finally:
        sys.setswitchinterval(switching)


async def test_spans_go_together_and_soon() -> None:
    exporter, before = Exporter(), dropped()
    made = queue(exporter)
    for _ in range(10):
        made.put(SPAN)
    await until(lambda: sum(exporter.sizes) == 10)
    made.stop(5)
    assert exporter.closed.is_set()
    assert dropped() == before


async def test_a_full_batch_does_not_wait() -> None:
    exporter = Exporter()
    made = queue(exporter, batch=100, delay=60)
    for _ in range(250):
        made.put(SPAN)
    await until(lambda: sum(exporter.sizes) >= 100)
    made.stop(5)
    assert sum(exporter.sizes) == 250
    assert max(exporter.sizes) == 100


def test_a_collector_that_hangs_holds_nobody_up() -> None:
    exporter, before = Exporter(hangs=True), dropped()
    made = queue(exporter, size=1000, batch=100)
    begin = time.perf_counter()
    for _ in range(50_000):
        made.put(SPAN)
    assert time.perf_counter() - begin < 2
    assert dropped() - before >= 48_900
    begin = time.perf_counter()
    made.stop(1)
    assert time.perf_counter() - begin < 2
    assert dropped() - before + sum(exporter.sizes) == 50_000


@pytest.mark.parametrize("answer", [False, TypeError("trailing metadata")])
async def test_what_fails_is_counted_and_the_next_is_tried(answer: bool | Exception) -> None:
    exporter, before = Exporter(answer), dropped()
    made = queue(exporter)
    with structlog.testing.capture_logs() as lines:
        for number in range(1, 4):
            made.put(SPAN)
            await until(partial(exporter.has_seen, number))
        await until(lambda: dropped() == before + 3)
        exporter.answer = True
        made.put(SPAN)
        made.stop(5)
    assert len(exporter.sizes) == 4
    assert dropped() == before + 3
    assert [line["event"] for line in lines] == ["spans_not_exported"]  # one line, however many failed


def test_the_end_waits_for_no_exporter() -> None:
    exporter = Exporter()
    exporter.close_seconds = 12
    made = queue(exporter)
    made.put(SPAN)
    begin = time.perf_counter()
    made.stop(0.5)
    assert time.perf_counter() - begin < 2
    assert sum(exporter.sizes) == 1
    made.stop(0.5)  # twice is nothing new
    before = dropped()
    made.put(SPAN)
    assert dropped() == before + 1
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("trace-"))


def test_no_thread_without_a_span() -> None:
    before = threading.enumerate()  # threads of other tests may still hang
    made = queue(Exporter())
    assert set(threading.enumerate()) <= set(before)
    made.put(SPAN)
    assert {thread.name for thread in set(threading.enumerate()) - set(before)} == {"trace-export"}
    made.stop(1)


def test_the_lines_of_the_sdk_are_kept_and_not_written(caplog: pytest.LogCaptureFixture) -> None:
    words = LastWords()
    logger = logging.getLogger("opentelemetry")
    before = (logger.handlers[:], logger.propagate)
    try:
        words.take_over()
        logging.getLogger("opentelemetry.exporter.otlp").error("Failed to export %s", "traces")
    finally:
        logger.handlers[:], logger.propagate = before
    assert words.text == "Failed to export traces"
    assert caplog.records == []
