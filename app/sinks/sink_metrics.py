"""Every metric of the sinks; `sink` is the name of the instance."""

from prometheus_client import Counter, Gauge, Histogram

RECEIVED = Counter("iot_sink_received", "Records of the input topic that were read, repeats included", ["sink"])
RECORDS = Counter(
    "iot_sink_records",
    "Received records by outcome: written, refused, filtered, skipped, dropped_cardinality, revoked; the sum with "
    "`held_records` is the number received",
    ["sink", "outcome"],
)
SKIPPED = Counter("iot_sink_skipped", "Records the worker dead-letters or drops, by its reason", ["sink", "reason"])
HELD_RECORDS = Gauge("iot_sink_held_records", "Records in memory that the destination has not taken", ["sink"])
HELD_BYTES = Gauge("iot_sink_held_bytes", "About how much memory the held records take", ["sink"])
LAG = Gauge("iot_sink_lag", "Records of the input topic that are not completed, as of the last update", ["sink"])
WAITING = Gauge(
    "iot_sink_waiting_seconds", "Age of the oldest record that is not completed; 0 without such a record", ["sink"]
)
FLUSH_SECONDS = Histogram(
    "iot_sink_flush_seconds",
    "Duration of a flush that the destination has taken",
    ["sink"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
WRITTEN_BYTES = Counter("iot_sink_written_bytes", "Bytes the destination has taken", ["sink"])
FAILURES = Counter(
    "iot_sink_failures", "Steps that failed and were retried: open, resume, flush, kafka, commit", ["sink", "step"]
)
LOGS_ANEW = Counter(
    "iot_sink_topic_made_anew",
    "Partitions that are read from their start, as the topic was recreated or the log truncated",
    ["sink"],
)
MISSED = Counter("iot_sink_missed", "Offsets that Kafka has removed before the sink has read them", ["sink"])
BREAKER = Gauge("iot_sink_breaker_state", "1 open: the destination is unavailable; 0.5 half-open, 0 closed", ["sink"])
PAUSED = Gauge(
    "iot_sink_paused", "1 while nothing is read, as memory is full or the destination is unavailable", ["sink"]
)
SERIES = Gauge("iot_sink_series", "Number of series (user, device, field); above the limit an estimate", ["sink"])
SERIES_LIMIT = Gauge("iot_sink_series_limit", "Most series of the sink; 0: no limit", ["sink"])
SERIES_DROPPED = Counter(
    "iot_sink_series_dropped", "Values of new series over a limit, by limit: sink, tenant", ["sink", "limit"]
)
TOP_SERIES = Gauge("iot_sink_top_series", "Number of series of each of the 20 users with most", ["sink", "user"])
TOP_DROPPED = Gauge(
    "iot_sink_top_series_dropped", "Values dropped since the start, of each of the 20 users with most", ["sink", "user"]
)
