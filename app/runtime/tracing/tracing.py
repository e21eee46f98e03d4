"""What programs make spans with: Tracing and TraceSpan. These two make no spans; the classes of provider.py do."""

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from enum import Enum
from types import TracebackType
from typing import Self

from app.runtime.tracing.context import SpanContext
from app.runtime.tracing.sampling import HeadSampling

Value = str | int | float | bool
Attributes = Mapping[str, Value]


class SpanKind(Enum):
    """What a span is, in the words and numbers of OpenTelemetry."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2
    PRODUCER = 3
    CONSUMER = 4


class TraceSpan:
    """A span that is not recorded. Each of its methods does nothing, at the price of a call.

    As a context manager a span is at work within the block: the span ends with the block, as failed when that raises.
    """

    __slots__ = ()
    context: SpanContext | None = None  # None: there is nothing to hand on

    def set(self, attributes: Attributes) -> None:
        """Add attributes; a name that is there already gets the new value."""

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        """Note that `name` happened now."""

    def link(self, context: SpanContext) -> None:
        """Refer to another span, also of another trace."""

    def fail(self, kind: str, description: str = "") -> None:
        """Note that the work failed: `kind` is a word of a bounded set (error.type), `description` for a human."""

    def end(self, at: int | None = None) -> None:
        """End the span, now or at `at` (nanoseconds since 1970); a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


NO_SPAN = TraceSpan()

# The span within which this task or thread is at work, if recorded: log lines have the span's ids (app/ops/logs.py).
CURRENT: ContextVar[TraceSpan | None] = ContextVar("iot_stream_span", default=None)


class Tracing:
    """Where no endpoint is set: nothing is sampled, and no span is made."""

    enabled = False

    def __init__(self, head: HeadSampling | None = None) -> None:
        self.head = head or HeadSampling(0.0)  # on messages that no context comes with

    def samples(self, context: SpanContext | None) -> bool:
        """Whether a message gets spans: as its context says, or, with None, by our own sampling, which counts the
        message: ask once for each.
        """
        return self.enabled and (self.head.agrees(context) if context else self.head.next())

    def always(self) -> bool:
        """Whether a failure gets a span though its message was not sampled; so many a second, the rest is counted."""
        return False

    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: SpanContext | None = None,
        attributes: Attributes | None = None,
        links: Iterable[SpanContext] = (),
        start: int | None = None,
    ) -> TraceSpan:
        """Begin a span, now or at `start` (nanoseconds since 1970): a child of `parent`, or the first of a new trace.

        Where tracing is on, the span is recorded in any case: ask `samples` or `always` before. `name` and the names in
        `attributes` stand in semconv.py. Texts are cut at 256 characters.
        """
        return NO_SPAN

    def before_stop(self, end: Callable[[], None]) -> None:
        """Have `end` called at the beginning of `stop`: `end` ends the spans that are still under way."""

    def stop(self, seconds: float) -> None:
        """Export what is left; returns after so many seconds at most. Blocks: not for an event loop. Safe twice."""


NO_TRACING = Tracing()
