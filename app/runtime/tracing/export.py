"""Spans on their way to the collector: in, each as it ends; out, batches of spans, sent by a thread of its own.

The caller that ends a span never waits: the queue is bounded, and a span that finds the queue full is dropped and
counted, as are the spans of a batch that the collector does not take. An exporter waits and tries again by
itself, up to its timeout (OTEL_EXPORTER_OTLP_TIMEOUT, 10 s).
"""

import contextlib
import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import structlog

from app.runtime.tracing.environment import ExportOptions
from app.runtime.tracing.metrics import SPANS_DROPPED
from app.runtime.tracing.recorded import RecordedSpan

log = structlog.get_logger()

REMIND_SECONDS = 60.0  # least time between two log lines about an export that failed
CLOSE_SECONDS = 0.2  # for the exporter's own end, beside what is left of the time to stop


class SpanExport(Protocol):
    """How spans leave the process."""

    def send(self, spans: Sequence[RecordedSpan]) -> bool:
        """Export a batch; whether the collector took it. May take long, and may raise anything."""

    def close(self) -> None:
        """End what is under way. May take long."""


class LastWords(logging.Handler):
    """What the SDK logged last, instead of its lines: the SDK writes a line for each failure, and for each try."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = self.template = ""  # the line, and the line without its values, which may be secret

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line, cut at 300 characters, in the place of the line before."""
        self.text, self.template = record.getMessage()[:300], str(record.msg)[:300]

    def take_over(self) -> None:
        """Have the SDK's log lines come here from now on, and go nowhere else."""
        logger = logging.getLogger("opentelemetry")
        logger.handlers[:] = [self]
        logger.propagate = False


class SpanQueue:
    """OpenTelemetry's BatchSpanProcessor, with its drops counted, one log line a minute, and an end in time."""

    def __init__(self, exporter: SpanExport, options: ExportOptions, words: LastWords) -> None:
        """`words`: what the exporter says when it fails."""
        self._exporter, self._options, self._words = exporter, options, words
        self._waiting: deque[RecordedSpan] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None  # from the first span on
        self._starting = threading.Lock()
        self._stopping = False
        self._lost, self._logged = 0, -REMIND_SECONDS  # since the last log line, and when that was (monotonic)

    def put(self, span: RecordedSpan) -> None:
        """Take a span that has ended, from any thread. Never waits: a span without room is dropped and counted."""
        if self._stopping or len(self._waiting) >= self._options.queue:
            self._drop(1)
            return
        self._waiting.append(span)
        if self._thread is None:
            self._start()
        elif len(self._waiting) == self._options.batch:
            self._wake.set()

    def _start(self) -> None:
        with self._starting:  # spans of the simulated fleet end in a thread for each device
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="trace-export", daemon=True)
                self._thread.start()

    def stop(self, seconds: float) -> None:
        """Send what waits, for so many seconds at most, and close the exporter; what is left then is dropped and
        counted.

        Blocks: not for an event loop. A second call does nothing.
        """
        if self._stopping:
            return
        deadline = time.monotonic() + seconds
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(max(0.0, seconds - CLOSE_SECONDS))
        # In a thread that nobody waits for: closing has been seen to take 12 s, and ends an export that still hangs.
        closing = threading.Thread(target=self._exporter.close, name="trace-close", daemon=True)
        closing.start()
        closing.join(max(0.0, deadline - time.monotonic()))
        while left := self._take():
            self._drop(len(left))

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._options.delay)
            self._wake.clear()
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while spans := self._take():
            if not self._send(spans):
                self._drop(len(spans))
                spans.clear()  # a failed try leaves cycles of errors and frames, and this list would stay in them
                self._report()
                if self._stopping:
                    return

    def _take(self) -> list[RecordedSpan]:
        """The next batch. Two threads may take at once: at the end the rest is dropped while an export hangs."""
        spans: list[RecordedSpan] = []
        with contextlib.suppress(IndexError):
            while len(spans) < self._options.batch:
                spans.append(self._waiting.popleft())
        return spans

    def _send(self, spans: list[RecordedSpan]) -> bool:
        try:
            return self._exporter.send(spans)
        except Exception as error:  # noqa: BLE001 - whatever an exporter raises, the next batch is tried
            self._words.text = f"{type(error).__name__}: {error}"[:300]
            return False

    def _drop(self, count: int) -> None:
        if count:
            SPANS_DROPPED.inc(count)
            self._lost += count

    def _report(self) -> None:
        now = time.monotonic()
        if now >= self._logged + REMIND_SECONDS:
            log.warning(
                "spans_not_exported",
                dropped=self._lost,
                error=self._words.text or "the collector refuses them",
                cure="is OTEL_EXPORTER_OTLP_ENDPOINT right, and the collector there? Messages go on without traces",
            )
            self._logged, self._lost = now, 0
            gc.collect(0)  # those cycles have the request; a worker looks for cycles seldom (allocator.py)
