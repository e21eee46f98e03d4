"""The W3C trace context of a message: header bytes in, a SpanContext out, or nothing where they are malformed.

A sender of messages may put there anything. So what is malformed is ignored and counted, and never raised;
no more than a few hundred bytes are looked at; `baggage` is not read at all.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from app.runtime.tracing.metrics import CONTEXTS_INVALID

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"  # names of headers, and of MQTT user properties

# Of version 00, and of later versions the known part. All zeros are no id, and ff is no version.
PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
STATE = re.compile(r"[\x20-\x7e]{1,512}")  # 512 characters: what W3C asks every hop to carry

_SAMPLED, _FLAGS = 1, 3  # sampled; sampled with a random trace id
_LENGTH, _LONGEST = 55, 512
NOT_SAMPLED = b"-00"  # at the end of a traceparent


class SpanContext(NamedTuple):
    """What of a span goes on with a message: the span's ids, and whether it is sampled."""

    trace_id: int  # 128 bits, never 0
    span_id: int  # 64 bits, never 0
    flags: int = _SAMPLED  # bit 0: sampled; bit 1: the trace id is random
    tracestate: str = ""  # as received, at most 512 characters; empty: no tracestate came

    @property
    def sampled(self) -> bool:
        """Whether the spans of this context are recorded."""
        return bool(self.flags & _SAMPLED)

    @property
    def traceparent(self) -> bytes:
        """The value of the header `traceparent`, in version 00: 55 bytes of ASCII."""
        return b"00-%032x-%016x-%02x" % (self.trace_id, self.span_id, self.flags)

    def headers(self) -> list[tuple[str, bytes]]:
        """The headers of a Kafka record: `traceparent`, then `tracestate` where there is one."""
        found = [(TRACEPARENT, self.traceparent)]
        return [*found, (TRACESTATE, self.tracestate.encode())] if self.tracestate else found


def parse(traceparent: bytes, tracestate: bytes | None = None) -> SpanContext | None:
    """The context of the two headers; None where the first is not well formed or has more than 512 bytes. Never raises;
    what is not well formed is counted (iot_trace_contexts_invalid_total).

    A `tracestate` that is not well formed is left out alone, as W3C asks.
    """
    text = _text(traceparent)
    if text and len(text) > _LENGTH and text[_LENGTH] == "-" and not text.startswith("00"):
        text = text[:_LENGTH]  # a later version, of which the rest is unknown
    if text is None or PARENT.fullmatch(text) is None:
        CONTEXTS_INVALID.inc()
        return None
    state = _state(tracestate) if tracestate else ""
    return SpanContext(int(text[3:35], 16), int(text[36:52], 16), int(text[53:], 16) & _FLAGS, state)


def context_of(headers: Iterable[tuple[str, bytes | None]]) -> SpanContext | None:
    """The context in the headers of a record; of repeated headers the first counts. None without a header `traceparent`
    that is well formed. Never raises.
    """
    parent = state = None
    for name, value in headers:
        if name == TRACEPARENT:
            parent = value if parent is None else parent
        elif name == TRACESTATE:
            state = value if state is None else state
    return parse(parent, state) if parent is not None else None


def _state(value: bytes) -> str:
    text = _text(value)
    if text is None or STATE.fullmatch(text) is None:
        CONTEXTS_INVALID.inc()
        return ""
    return text


def _text(value: bytes) -> str | None:
    return value.decode() if len(value) <= _LONGEST and value.isascii() else None
