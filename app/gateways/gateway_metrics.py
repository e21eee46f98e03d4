"""Every metric that the gateways share; the bridge's are in mqtt/metrics.py."""

from prometheus_client import Counter, Gauge, Histogram

from app.gateways.admission import AdmissionMetrics
from app.gateways.writer import WriterMetrics

REQUESTS = Counter(
    "iot_gateway_requests",
    "Requests, or messages with an answer each, by outcome: accepted, partly, rejected, unavailable",
    ["gateway", "outcome"],
)
RECORDS = Counter("iot_gateway_records", "Records answered as accepted, after Kafka's ack", ["gateway"])
PAYLOAD_BYTES = Counter("iot_gateway_payload_bytes", "Payload bytes of the records answered as accepted", ["gateway"])
REJECTED = Counter("iot_gateway_rejected", "Records, lines and requests refused, by reason", ["gateway", "reason"])
REFUSED_LOGINS = Counter(
    "iot_gateway_refused_logins", "Logins that were refused, by reason; no name is exported",
    ["gateway", "reason"],
)  # fmt: skip
CONNECTIONS = Gauge("iot_gateway_connections", "Connections that are open; of gRPC, streams", ["gateway"])
UNACKED_BYTES = Gauge("iot_gateway_unacked_bytes", "Memory of records taken and not yet acknowledged by Kafka")
UNACKED = Gauge("iot_gateway_unacked", "Records taken and not yet acknowledged by Kafka")
FULL = Gauge("iot_gateway_full", "1 while so much is not acknowledged that readers pause and HTTP answers 503")
OLDEST = Gauge("iot_gateway_waiting_seconds", "How long ago the oldest record in hand was taken; 0 when there is none")
KAFKA_CONNECTED = Gauge("iot_gateway_kafka_connected", "1 while Kafka takes what is written")
ACK_SECONDS = Histogram(
    "iot_gateway_ack_seconds",
    "From a submission to Kafka's ack of the whole submission; of the first one in each chunk that is written",
    ["gateway"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30),
)
TOP_MESSAGES = Gauge(
    "iot_gateway_top_messages", "Records since the start, of the 20 users with most and of `other`", ["user"]
)
TOP_BYTES = Gauge(
    "iot_gateway_top_bytes", "Payload bytes since the start, of the 20 users with most and of `other`", ["user"]
)
TOP_LIMITED = Gauge(
    "iot_gateway_top_limited", "Records over a limit, of the 20 users with most and of `other`", ["user"]
)
SERIES = Gauge("iot_gateway_series", "Series (devices, sensors) of QUIC senders that are remembered, of all accounts")
TOP_SERIES = Gauge("iot_gateway_top_series", "Number of series of each of the 20 accounts with most", ["user"])
SERIES_UNTRACKED = Counter(
    "iot_gateway_series_untracked",
    "Metrics taken in whose series is not remembered, as there are too many series in all",
)
SERIES_OVER_LIMIT = Counter(
    "iot_gateway_series_over_limit",
    "Metrics of new series over the limit of their account, by what became of them: refused, taken",
    ["outcome"],
)
LIMITED = Counter("iot_gateway_limited", "Records over a limit, by the limit", ["limit"])
WRITTEN = Counter("iot_gateway_written", "Records Kafka has acknowledged, of all gateways of the process")
REFUSED = Counter("iot_gateway_refused", "Records Kafka refuses for ever, by what became of them", ["outcome"])
KAFKA_FAILURES = Counter("iot_gateway_kafka_failures", "Writes to Kafka that failed and were tried again")

WRITER = WriterMetrics("gateway", WRITTEN, REFUSED, KAFKA_FAILURES)
ADMISSION = AdmissionMetrics(LIMITED, TOP_MESSAGES, TOP_BYTES, TOP_LIMITED)
