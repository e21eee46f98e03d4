"""Which messages are traced: a share of messages that nobody has decided on and, up to a limit, failures."""

import math
import random
import time
from collections.abc import Callable, Sequence

from app.runtime.tracing.context import SpanContext
from app.runtime.tracing.metrics import ALWAYS_LIMITED

_NEVER = 1 << 62
_IDS = 1 << 64  # TraceIdRatioBased of OpenTelemetry looks at the lower 64 bits


class HeadSampling:
    """Decides on messages one after another, or on many at once.

    No random number is drawn for each message but, from the geometric distribution, how many messages are left out
    before the next: messages are sampled as often, and thousands that are not sampled cost one subtraction.
    """

    def __init__(self, ratio: float, parent_based: bool = True, draw: Callable[[], float] = random.random) -> None:
        """`ratio` is from 0 to 1. `parent_based`: a message with a context is sampled when that says so; else by its
        trace id. `draw` returns numbers from 0 to below 1.
        """
        self.ratio, self.parent_based, self._draw = ratio, parent_based, draw
        self._bound = round(ratio * _IDS)
        self._left_out = self._gap()  # before the next that is sampled

    def next(self) -> bool:
        """Whether the next message without a context is sampled."""
        if self._left_out:
            self._left_out -= 1
            return False
        self._left_out = self._gap()
        return True

    def take(self, count: int) -> Sequence[int]:
        """Which of the next `count` messages without a context are sampled: their positions, from 0, ascending."""
        at = self._left_out
        if at >= count:
            self._left_out = at - count
            return ()
        found = []
        while at < count:
            found.append(at)
            at += 1 + self._gap()
        self._left_out = at - count
        return found

    def agrees(self, context: SpanContext) -> bool:
        """Whether a message with this context is sampled."""
        return context.sampled if self.parent_based else context.trace_id % _IDS < self._bound

    def _gap(self) -> int:
        if self.ratio <= 0:
            return _NEVER
        if self.ratio >= 1:
            return 0
        return int(min(_NEVER, math.log(1.0 - self._draw()) / math.log1p(-self.ratio)))


class AlwaysLimit:
    """What gets a span whatever the sampling says: so many a second, all of them at once if need be (a
    token bucket).
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_second` below 1: none ever. `clock` returns seconds and never goes back."""
        self._per_second, self._clock = per_second, clock
        self._left, self._at = per_second, clock()

    def allows(self) -> bool:
        """Whether one more failure gets a span now; others are counted (iot_trace_always_limited_total)."""
        now = self._clock()
        self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            ALWAYS_LIMITED.inc()
            return False
        self._left -= 1
        return True
