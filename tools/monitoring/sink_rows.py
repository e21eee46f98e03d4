"""Rows of the operations dashboard: the sinks, Parquet, InfluxDB, Redis, the HTTP feed and gRPC."""

from tools.monitoring.panels import Panel, Prom, column, renamed, series, table
from tools.monitoring.queries import ANY, BREAKER, above, gained, of, quantile, rate


def _each(metric: str, how: str = "sum") -> str:
    """PromQL for a gauge of each sink, over its processes."""
    return f"{how} by (sink) ({of(metric)})"


SINKS: list[Panel] = [
    series(
        "Records of the sinks",
        "What became of what each has read: written, filtered, skipped (the worker dead-letters it), refused for ever"
        " by the destination, dropped as new series over the limit, given up with a partition.",
        "recps",
        Prom(rate("iot_sink_records_total", "sink, outcome"), "{{sink}} {{outcome}}"),
        Prom(rate("iot_sink_received_total", "sink"), "{{sink}} read"),
    ),
    series(
        "Lag of the sinks",
        "Records of the input topic that are not done, of them in memory; a file that is being written counts until it"
        " is whole.",
        "short",
        Prom(_each("iot_sink_lag"), "{{sink}}"),
        Prom(_each("iot_sink_held_records"), "{{sink}} in memory"),
    ),
    series(
        "Oldest record of a sink",
        "How long ago the oldest record came in that is not done. Parquet's has the age of its file.",
        "s",
        Prom(_each("iot_sink_waiting_seconds", "max"), "{{sink}}"),
    ),
    series(
        "Circuits of the sinks",
        "Open while the destination is away: nothing is read then, and Kafka keeps it.",
        "short",
        Prom(_each("iot_sink_breaker_state", "max"), "{{sink}}"),
        Prom(_each("iot_sink_paused", "max"), "{{sink}} paused"),
        extra={"min": 0, "max": 1, **BREAKER},
    ),
    series(
        "Failures of the sinks",
        "Steps that failed and were tried again: the destination (open, resume, flush), Kafka, a commit.",
        "short",
        Prom(gained("iot_sink_failures_total", "sink, step"), "{{sink}} {{step}}"),
    ),
    series(
        "Lost by Kafka before a sink had it",
        "Offsets that retention had removed before they were read, and partitions that are read from their start, as"
        " the topic is another one or its log has lost its end.",
        "short",
        Prom(gained("iot_sink_missed_total", "sink"), "missed, {{sink}}"),
        Prom(gained("iot_sink_topic_made_anew_total", "sink"), "begun anew, {{sink}}"),
    ),
    series(
        "Time of a flush",
        "Until the destination had all of it, by sink.",
        "s",
        Prom(quantile(0.5, "iot_sink_flush_seconds", "sink"), "median {{sink}}"),
        Prom(quantile(0.99, "iot_sink_flush_seconds", "sink"), "99 % {{sink}}"),
        steps=above((5, "yellow"), (30, "red")),
    ),
    series(
        "Memory of the sinks",
        "What the records take that the destination has not taken; at IOT_SINK_BUFFER_BYTES nothing more is read.",
        "bytes",
        Prom(_each("iot_sink_held_bytes"), "{{sink}}"),
    ),
    series(
        "Bytes to the destinations",
        "A second, as they were taken, compressed where they are.",
        "Bps",
        Prom(rate("iot_sink_written_bytes_total", "sink"), "{{sink}}"),
    ),
    series(
        "Skipped by the sinks",
        "By the reason for which the worker dead-letters or drops them.",
        "recps",
        Prom(rate("iot_sink_skipped_total", "sink, reason"), "{{sink}} {{reason}}"),
    ),
    series(
        "Books of the sinks",
        "Read, less all that became of it and what is in memory: 0, but for moments.",
        "short",
        Prom(
            f"{_each('iot_sink_received_total')} - {_each('iot_sink_records_total')} - "
            f"{_each('iot_sink_held_records')}",
            "{{sink}}",
        ),
        extra={},
        steps=ANY,
    ),
    series(
        "Series of the sinks",
        "Fields of devices that are known, beside the limit; above it an estimate. A known one is never dropped.",
        "short",
        Prom(_each("iot_sink_series", "max"), "{{sink}}"),
        Prom(_each("iot_sink_series_limit", "max"), "{{sink}} limit"),
    ),
    series(
        "Dropped as new series",
        "Values beyond the limit of the sink or of one user.",
        "short",
        Prom(gained("iot_sink_series_dropped_total", "sink, limit"), "{{sink}} {{limit}}"),
        steps=ANY,
    ),
    table(
        "Users with most series at the sinks",
        "Of each sink the 20 with most, and the 20 of whom most was dropped since its start.",
        Prom(f"max by (sink, user) ({of('iot_sink_top_series')})", instant=True),
        Prom(f"max by (sink, user) ({of('iot_sink_top_series_dropped')})", instant=True),
        width=24,
        unit="short",
        transformations=(
            {"id": "merge", "options": {}},
            renamed(**{"Value #A": "series", "Value #B": "dropped"}),
            {"id": "sortBy", "options": {"sort": [{"field": "series", "desc": True}]}},
        ),
        overrides=(column("dropped", unit="short"),),
    ),
]
