"""Metrics of tracing, which every program has."""

from prometheus_client import Counter

SPANS_DROPPED = Counter(
    "iot_trace_spans_dropped_total", "Spans that no collector got: the queue was full, or the export failed"
)
CONTEXTS_INVALID = Counter(
    "iot_trace_contexts_invalid_total", "Trace contexts of messages that are not well formed, and were ignored"
)
ALWAYS_LIMITED = Counter(
    "iot_trace_always_limited_total",
    "Dead letters, errors and refused rows that got no span, as there were more than IOT_TRACE_ALWAYS_PER_SECOND",
)
INCOMING_LIMITED = Counter(
    "iot_trace_incoming_limited_total",
    "Messages that say they are sampled and got no span, as there were more than IOT_TRACE_INCOMING_PER_SECOND",
)
