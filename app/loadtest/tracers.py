"""Which readings of the load tester start a trace, and what they carry of it."""

import secrets
from typing import NamedTuple

from app.loadtest import wire
from app.loadtest.plan import LoadPlan
from app.runtime.tracing import semconv
from app.runtime.tracing.context import SpanContext
from app.runtime.tracing.sampling import HeadSampling
from app.runtime.tracing.tracing import NO_SPAN, SpanKind, TraceSpan, Tracing


class Traced(NamedTuple):
    """A reading with a trace: the properties of its PUBLISH, and the span until the PUBACK."""

    properties: bytes
    span: TraceSpan


class Tracer:
    """Gives a share of the readings a `traceparent`, and each of these its span `mqtt_publish` where spans are kept.

    Without an address for spans here the share still carries a context, so that the programs behind record theirs.
    """

    def __init__(self, plan: LoadPlan, tracing: Tracing, ratio: float) -> None:
        self._plan, self._tracing, self._head = plan, tracing, HeadSampling(ratio)

    def begin(self, device: int, sequence: int, size: int) -> Traced | None:
        """The trace of a reading with a payload of `size` bytes; None for a reading without one."""
        if not self._tracing.enabled:
            if not self._head.next():
                return None
            context = SpanContext(secrets.randbits(128) | 1, secrets.randbits(64) | 1)
            return Traced(wire.traceparent_field(context.traceparent), NO_SPAN)
        if not self._tracing.samples(None):
            return None
        span = self._tracing.span(
            semconv.MQTT_PUBLISH,
            SpanKind.PRODUCER,
            attributes={
                semconv.MESSAGING_SYSTEM: semconv.MQTT,
                semconv.MESSAGING_OPERATION_NAME: "publish",
                semconv.MESSAGING_OPERATION_TYPE: "send",
                semconv.MESSAGING_DESTINATION_NAME: self._plan.topic(device),
                semconv.MESSAGING_MESSAGE_BODY_SIZE: size,
                semconv.USER_ID: self._plan.user(device),
                semconv.DEVICE_ID: self._plan.name(device),
                semconv.SEQUENCE_ID: sequence,
            },
        )
        properties = wire.traceparent_field(span.context.traceparent) if span.context else wire.NO_PROPERTIES
        return Traced(properties, span)
