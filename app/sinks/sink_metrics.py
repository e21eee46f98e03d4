"""Every metric of the sinks; `sink` is the name of the instance."""

from prometheus_client import Counter, Gauge, Histogram

RECEIVED = Counter("iot_sink_received", "Records of the input topic that were read, repeats included", ["sink"])
RECORDS = Counter(
    "iot_sink_records",
    "What became of them: written, refused, filtered, skipped, dropped_cardinality, revoked; with `held_records` they "
    "sum to what was received",
    ["sink", "outcome"],
)
SKIPPED = Counter("iot_sink_skipped", "Records the worker dead-letters or drops, by its reason", ["sink", "reason"])
HELD_RECORDS = Gauge("iot_sink_held_records", "Records in memory that the destination has not taken", ["sink"])
HELD_BYTES = Gauge("iot_sink_held_bytes", "Memory that they take, about", ["sink"])
LAG = Gauge("iot_sink_lag", "Records of the input topic that are not done, as of the last fetch", ["sink"])
WAITING = Gauge(
    "iot_sink_waiting_seconds", "How long ago the oldest record that is not done came in; 0 when all are", ["sink"]
)
FLUSH_SECONDS = Histogram(
    "iot_sink_flush_seconds",
    "A flush that the destination has taken",
    ["sink"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
WRITTEN_BYTES = Counter("iot_sink_written_bytes", "Bytes the destination has taken", ["sink"])
FAILURES = Counter(
    "iot_sink_failures", "Steps that failed and were tried again: open, resume, flush, kafka, commit", ["sink", "step"]
)
LOGS_ANEW = Counter(
    "iot_sink_topic_made_anew",
    "Partitions that are read from their start, as their topic is another one, or the log has lost its end",
    ["sink"],
)
MISSED = Counter("iot_sink_missed", "Offsets that Kafka has removed before they were read", ["sink"])
BREAKER = Gauge("iot_sink_breaker_state", "1 open: the destination is away; 0.5 half-open, 0 closed", ["sink"])
PAUSED = Gauge("iot_sink_paused", "1 while nothing is read, as memory is full or the destination is away", ["sink"])
SERIES = Gauge("iot_sink_series", "Series (user, device, field) that are known; above the bound an estimate", ["sink"])
SERIES_LIMIT = Gauge("iot_sink_series_limit", "Most series of the sink; 0: no limit", ["sink"])
SERIES_DROPPED = Counter(
    "iot_sink_series_dropped", "Values of new series over a limit, by which it was: sink, tenant", ["sink", "limit"]
)
TOP_SERIES = Gauge("iot_sink_top_series", "Of the 20 users with most series, how many", ["sink", "user"])
TOP_DROPPED = Gauge(
    "iot_sink_top_series_dropped", "Values dropped since the start, of the 20 users with most", ["sink", "user"]
)
