"""Every metric of the bridge."""

from prometheus_client import Counter, Gauge, Histogram

from app.gateways.admission import AdmissionMetrics
from app.gateways.writer import WriterMetrics

MESSAGES = Counter("iot_bridge_messages", "Messages taken from the MQTT broker", ["kind"])
BYTES = Counter("iot_bridge_payload_bytes", "Payload bytes of messages taken from the MQTT broker", ["kind"])
ACKED = Counter("iot_bridge_acked", "Messages acknowledged to the MQTT broker, after Kafka's ack")
WRITTEN = Counter("iot_bridge_written", "Records Kafka has acknowledged")
IGNORED = Counter("iot_bridge_ignored", "Own outputs seen on the subscription and not taken in again")
DAMAGED = Counter("iot_bridge_damaged", "Messages whose topic or properties are not valid MQTT; forwarded as unknown")
REFUSED = Counter("iot_bridge_refused", "Records Kafka refuses for ever, by what became of them", ["outcome"])
LIMITED = Counter("iot_bridge_limited", "Messages over an ingress limit, by what became of them", ["outcome"])
TOP_MESSAGES = Gauge(
    "iot_bridge_top_messages", "Messages since the start, of the 20 users with most and of `other`", ["user"]
)
TOP_BYTES = Gauge(
    "iot_bridge_top_bytes", "Payload bytes since the start, of the 20 users with most and of `other`", ["user"]
)
TOP_LIMITED = Gauge(
    "iot_bridge_top_limited", "Messages over a limit, of the 20 users with most and of `other`", ["user"]
)
IN_FLIGHT = Gauge("iot_bridge_in_flight", "Messages taken from the broker and not yet acknowledged")
OLDEST = Gauge(
    "iot_bridge_waiting_seconds", "How long ago the oldest message in hand was taken; 0 when all are acknowledged"
)
BUFFERED_BYTES = Gauge("iot_bridge_buffered_bytes", "Payload bytes waiting for Kafka")
PAUSED = Gauge("iot_bridge_paused", "1 while nothing is read from the MQTT broker, as the buffer is full")
CONNECTED = Gauge("iot_bridge_connected", "1 while connected and subscribed")
RECONNECTS = Counter("iot_bridge_reconnects", "Connections to the MQTT broker lost or refused")
KAFKA_CONNECTED = Gauge("iot_bridge_kafka_connected", "1 while Kafka takes what is written")
SESSIONS_LOST = Counter("iot_bridge_sessions_lost", "Reconnects at which the MQTT broker had no session any more")
KAFKA_FAILURES = Counter("iot_bridge_kafka_failures", "Writes to Kafka that failed and were tried again")
WRITE_SECONDS = Histogram(
    "iot_bridge_write_seconds",
    "From the start of a write to Kafka's ack of all of it",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30),
)

WRITER = WriterMetrics("bridge", WRITTEN, REFUSED, KAFKA_FAILURES)
ADMISSION = AdmissionMetrics(LIMITED, TOP_MESSAGES, TOP_BYTES, TOP_LIMITED)
