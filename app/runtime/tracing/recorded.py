"""Spans that are recorded: in, what happened; out, each span at its end, to the exporter's `take`.

OpenTelemetry's SDK takes 50 us for such a span and as much again to encode it, twenty times what is done here: with one
message in a hundred traced that would be a sixth of a worker's CPU. What is sent is the same: the tests compare a span
with what the SDK makes of an equal span.
"""

import random
import time
from collections.abc import Callable, Iterable
from contextvars import Token
from types import TracebackType
from typing import Any, NamedTuple, Self

from opentelemetry import context as otel_context
from opentelemetry import trace as otel

from app.runtime.tracing.context import SpanContext
from app.runtime.tracing.sampling import AlwaysLimit, HeadSampling
from app.runtime.tracing.semconv import ERROR_TYPE
from app.runtime.tracing.tracing import CURRENT, Attributes, SpanKind, TraceSpan, Tracing, Value

EVENTS = LINKS = 128  # of a span at most, as in the SDK

Take = Callable[["RecordedSpan"], None]


class SpanEvent(NamedTuple):
    """Something that happened within a span, and when."""

    name: str
    at: int  # nanoseconds since 1970
    attributes: Attributes


class RecordedSpan(TraceSpan):
    """A span on its way; `end` hands the span over, and nothing of the span changes then.

    `started` and `ended` are nanoseconds since 1970 (`ended` 0: not yet). Events and links beyond 128 are left out.
    """

    __slots__ = (
        "_attached",
        "_entered",
        "_take",
        "attributes",
        "context",
        "description",
        "ended",
        "events",
        "failed",
        "kind",
        "links",
        "name",
        "parent",
        "started",
    )
    context: SpanContext

    def __init__(self, name: str, kind: SpanKind, parent: SpanContext | None, take: Take) -> None:
        """The span begins now, as a child of `parent` or, with None, as the first of a new trace; `take` gets the span
        once, at its end.
        """
        self.name, self.kind, self.parent, self._take = name, kind, parent, take
        if parent is None:
            self.context = SpanContext(random.getrandbits(128) or 1, random.getrandbits(64) or 1)
        else:
            self.context = SpanContext(
                parent.trace_id, random.getrandbits(64) or 1, parent.flags | 1, parent.tracestate
            )
        self.started, self.ended = time.time_ns(), 0
        self.attributes: dict[str, Value] = {}
        self.links: list[SpanContext] = []
        self.events: list[SpanEvent] = []
        self.failed, self.description = False, ""

    def set(self, attributes: Attributes) -> None:
        """Add attributes; a name that is there already gets the new value."""
        self.attributes.update(attributes)

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        """Note that `name` happened now."""
        if len(self.events) < EVENTS:
            self.events.append(SpanEvent(name, time.time_ns(), attributes or {}))

    def link(self, context: SpanContext) -> None:
        """Refer to another span, also of another trace."""
        if len(self.links) < LINKS:
            self.links.append(context)

    def fail(self, kind: str, description: str = "") -> None:
        """Note that the work failed: `kind` is a word of a bounded set (error.type), `description` for a human."""
        self.attributes[ERROR_TYPE] = kind
        self.failed, self.description = True, description

    def end(self, at: int | None = None) -> None:
        """End the span, now or at `at` (nanoseconds since 1970), and hand it over; a second call does nothing."""
        if not self.ended:
            self.ended = time.time_ns() if at is None else at
            self._take(self)

    def __enter__(self) -> Self:
        self._entered: Token[TraceSpan | None] = CURRENT.set(self)
        # For what else is instrumented in this process (aiokafka.py).
        above = otel.NonRecordingSpan(otel_span_context(self.context))
        self._attached: Token[Any] = otel_context.attach(otel.set_span_in_context(above))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        otel_context.detach(self._attached)
        CURRENT.reset(self._entered)
        if kind is not None:
            self.fail(kind.__name__, str(error))
        self.end()


class RecordedTracing(Tracing):
    """Each span is recorded, and given to `take` at its end."""

    enabled = True

    def __init__(
        self, head: HeadSampling, limit: AlwaysLimit, take: Take, stop: Callable[[float], None] = lambda seconds: None
    ) -> None:
        """`stop` is called at the end with the seconds that `stop` may take."""
        super().__init__(head)
        self._limit, self._take, self._stop = limit, take, stop
        self._ends: list[Callable[[], None]] = []

    def always(self) -> bool:
        """Whether a failure gets a span though its message was not sampled; so many a second, the rest is counted."""
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
        """Begin a span, which is recorded; `parent`, `start` and the rest as Tracing.span has them."""
        made = RecordedSpan(name, kind, parent, self._take)
        if start is not None:
            made.started = start
        if attributes:
            made.attributes.update(attributes)
        for context in links:
            made.link(context)
        return made

    def before_stop(self, end: Callable[[], None]) -> None:
        """Have `end` called first when this stops: `end` ends the spans that are still under way."""
        self._ends.append(end)

    def stop(self, seconds: float) -> None:
        """Export what is left; returns after so many seconds at most."""
        while self._ends:
            self._ends.pop()()
        self._stop(seconds)


def otel_span_context(context: SpanContext) -> otel.SpanContext:
    """The context as the class of OpenTelemetry's API, marked as a context that came from elsewhere (is_remote)."""
    state = otel.TraceState.from_header([context.tracestate]) if context.tracestate else None
    return otel.SpanContext(context.trace_id, context.span_id, True, otel.TraceFlags(context.flags), state)
