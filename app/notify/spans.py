"""The span `notify` of an alert event, from its take off the alert topic to the broker's PUBACK.

Events whose context is sampled have a span, within a budget a second; so have events left out, sampled or not. The
context is that of the worker's `alert_publish`, in the header of the record, or else the event's own.
"""

import time

from app.core.ingress.trace_budget import TraceBudget
from app.notify.alert_records import AlertRecord
from app.runtime.tracing import semconv
from app.runtime.tracing.context import SpanContext, context_of, parse
from app.runtime.tracing.metrics import INCOMING_LIMITED
from app.runtime.tracing.tracing import NO_SPAN, SpanKind, TraceSpan, Tracing

LEFT_OUT = "left_out"


class NotifySpans:
    """The spans of one notifier; none without tracing."""

    def __init__(self, tracing: Tracing, budget: TraceBudget) -> None:
        """`budget` bounds events whose context is sampled."""
        self._tracing, self._budget = tracing, budget

    def begin(self, found: AlertRecord, since: int) -> TraceSpan:
        """The span of an event that was taken at `since` (nanoseconds since 1970); NO_SPAN for an event that is not
        sampled, or above the budget, which is counted. `end` ends it.
        """
        context = self._context(found) if self._tracing.enabled else None
        if context is None or not self._tracing.samples(context):
            return NO_SPAN
        if not self._budget.spend(found.user_id.encode(), time.monotonic()):
            INCOMING_LIMITED.inc()
            return NO_SPAN
        return self._span(found, context, since)

    def end(self, span: TraceSpan, found: AlertRecord, since: int, left_out: str | None) -> None:
        """End the span: the broker has the event (`left_out` None), or why it is left out, in words for a person.

        An event that is left out gets a span though nothing sampled it, within the limit of `tracing.always`.
        """
        if left_out is not None:
            if span is NO_SPAN and self._tracing.always():
                span = self._span(found, self._context(found), since)
            span.fail(LEFT_OUT, left_out)
        span.end()

    def _context(self, found: AlertRecord) -> SpanContext | None:
        if context := context_of(found.headers):
            return context
        event = found.event
        return parse(event.traceparent.encode()) if event and isinstance(event.traceparent, str) else None

    def _span(self, found: AlertRecord, parent: SpanContext | None, since: int) -> TraceSpan:
        event = found.event
        assert event
        return self._tracing.span(
            semconv.NOTIFY,
            SpanKind.PRODUCER,
            parent,
            {
                semconv.MESSAGING_SYSTEM: semconv.MQTT,
                semconv.MESSAGING_OPERATION_NAME: "publish",
                semconv.MESSAGING_OPERATION_TYPE: "send",
                semconv.MESSAGING_DESTINATION_NAME: found.topic,
                semconv.MESSAGING_DESTINATION_TEMPLATE: "users/{user_id}/alerts",
                semconv.MESSAGING_MESSAGE_BODY_SIZE: len(found.text),
                semconv.USER_ID: event.user_id,
                semconv.DEVICE_ID: event.device_id,
                semconv.RULE_ID: event.rule_id,
                semconv.ALERT_ID: event.alert_id,
                semconv.ALERT_STATUS: event.status.value,
            },
            start=since,
        )
