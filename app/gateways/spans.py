"""The span `bridge`, or `gateway`, of each sampled message, from arrival to Kafka's ack, and of what is dead-lettered.

In, records on their way to Kafka, whose last header then carries the span's context; the payload stays as it is. What
is not sampled costs one look at the name of its last header. Anybody may say that he is sampled, as often as he likes:
there is a budget for that, and what is over it goes on in its trace as not sampled, so that it costs nobody a span.
"""

import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from app.core.ingress.trace_budget import TraceBudget
from app.core.model.records import Kind, Reason
from app.core.routing.mqtt_topics import route
from app.gateways.admission import account
from app.gateways.record import IngestRecord
from app.runtime.tracing import semconv
from app.runtime.tracing.context import TRACEPARENT, SpanContext, context_of
from app.runtime.tracing.metrics import INCOMING_LIMITED
from app.runtime.tracing.tracing import SpanKind, TraceSpan, Tracing, Value

INTERRUPTED = "interrupted"


class _Numbered(msgspec.Struct, gc=False):
    sequence_id: Any = None


_decoder = msgspec.json.Decoder(_Numbered)

Spans = dict[int, TraceSpan]  # by the id() of their record


class BridgeSpans:
    """The spans of what goes to one topic; made only where tracing is on."""

    def __init__(self, tracing: Tracing, topic: str, budget: TraceBudget, name: str = semconv.BRIDGE) -> None:
        """`topic` is the input topic, `budget` that of messages that say they are sampled. `name`: of the spans; of a
        gateway's, semconv.GATEWAY.
        """
        self._tracing, self._budget, self._name = tracing, budget, name
        self._fixed: dict[str, Value] = {
            semconv.MESSAGING_SYSTEM: semconv.KAFKA,
            semconv.MESSAGING_OPERATION_NAME: "send",
            semconv.MESSAGING_OPERATION_TYPE: "send",
            semconv.MESSAGING_DESTINATION_NAME: topic,
        }

    def begin(self, records: Sequence[IngestRecord]) -> Spans:
        """Begin the spans of the records that are sampled: as their context says, or by our own sampling without one.
        Their last header carries the span's context from now on.
        """
        spans: Spans = {}
        own = [record for record in records if record.headers[-1][0] != TRACEPARENT]
        for at in self._tracing.head.take(len(own)):
            spans[id(own[at])] = self._begin(own[at], None)
        if len(own) < len(records):
            now = time.monotonic()
            for record in records:
                if record.headers[-1][0] == TRACEPARENT and (parent := self._honoured(record, now)):
                    spans[id(record)] = self._begin(record, parent)
        return spans

    def end(self, spans: Spans, over: Iterable[IngestRecord], refused: Iterable[IngestRecord] | None) -> None:
        """End the spans once Kafka has all of it: `over` and `refused` as dead letters, for a limit and for their size.

        `refused` is None when the process stopped before it knew: whoever sent those messages sends them again.
        """
        if refused is None:
            for span in spans.values():
                span.fail(
                    INTERRUPTED, f"the {self._name} stopped before Kafka's ack; its sender sends the message again"
                )
                span.end()
            return
        for record in over:
            self._failed(record, None, Reason.RATE_LIMITED, record.over or "")
        for record in refused:
            self._failed(record, spans.pop(id(record), None), Reason.PAYLOAD_TOO_LARGE, "Kafka refuses it for its size")
        for span in spans.values():
            span.end()

    def _begin(self, record: IngestRecord, parent: SpanContext | None) -> TraceSpan:
        """The span, whose context the record carries from now on instead of its parent's."""
        span = self._span(record, parent)
        if span.context:
            if parent is not None:
                record.headers.pop()
            record.headers.append((TRACEPARENT, span.context.traceparent))
        return span

    def _honoured(self, record: IngestRecord, now: float) -> SpanContext | None:
        """The context that a record came with, if it is sampled and there is room for one more."""
        value, head = record.headers[-1][1], self._tracing.head
        if head.parent_based:
            if not int(value[-2:], 16) & 1:  # trace_context.py has looked at the whole of it
                return None
        elif not self._tracing.samples(context_of(record.headers)):
            return None
        if self._budget.spend(account(record.headers[0][1]), now):
            return context_of(record.headers)
        INCOMING_LIMITED.inc()
        # W3C asks for a new span id whenever the flag is changed.
        record.headers[-1] = (TRACEPARENT, b"00%s%016x-00" % (value[2:36], random.getrandbits(64) | 1))
        return None

    def _span(self, record: IngestRecord, parent: SpanContext | None) -> TraceSpan:
        routed = route(record.headers[0][1].decode("utf-8", "replace"))
        attributes = {**self._fixed, semconv.MESSAGING_MESSAGE_BODY_SIZE: len(record.value)}
        if routed.user_id:
            attributes[semconv.USER_ID] = routed.user_id
        if routed.device_id:
            attributes[semconv.DEVICE_ID] = routed.device_id
        if record.kind is Kind.TELEMETRY and (number := _sequence_id(record.value)) is not None:
            attributes[semconv.SEQUENCE_ID] = number
        return self._tracing.span(self._name, SpanKind.PRODUCER, parent, attributes, start=record.ingest_ms * 1_000_000)

    def _failed(self, record: IngestRecord, span: TraceSpan | None, reason: Reason, why: str) -> None:
        if span is None:
            if not self._tracing.always():
                return
            span = self._span(record, context_of(record.headers))
        span.set({semconv.REASON: reason.value})
        span.fail(reason.value, why)
        span.end()


def _sequence_id(payload: bytes) -> int | None:
    """As far as it is in the payload, and a number that an attribute holds."""
    try:
        found = _decoder.decode(payload).sequence_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return found if type(found) is int and -(1 << 63) <= found < 1 << 63 else None
