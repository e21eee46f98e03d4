"""Metrics that only the QUIC gateway has; all others are in gateway_metrics.py."""

from prometheus_client import Counter, Gauge

SERIES = Gauge(
    "iot_gateway_series", "Series (topics of telemetry) of QUIC senders that are remembered, of all accounts"
)
TOP_SERIES = Gauge("iot_gateway_top_series", "Of the 20 accounts with most series, how many", ["user"])
UNTRACKED = Counter(
    "iot_gateway_series_untracked", "Metrics of series that came in and are not remembered: there are too many in all"
)
OVER_LIMIT = Counter(
    "iot_gateway_series_over_limit",
    "Metrics of new series over the limit of their account, by what became of them: refused, taken",
    ["outcome"],
)
