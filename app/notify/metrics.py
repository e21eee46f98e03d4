"""Every metric of the notifier, and of the webhook and channels that it sends to."""

from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram

# Seconds; a webhook has IOT_WEBHOOK_TIMEOUT, 10 by default.
_ANSWERS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

TAKEN = Counter("iot_notifier_taken", "Records taken from the alert topic", ["group"])
PUBLISHED = Counter("iot_notifier_published", "Alert messages acknowledged by the MQTT broker", ["status"])
DELAYED = Counter("iot_notifier_delayed", "Alert messages acknowledged that were marked as `delayed`")
SUSPECTS = Gauge("iot_notifier_suspects", "Messages set aside because the broker may not be able to take them")
LEFT_OUT = Counter("iot_notifier_left_out", "Messages the broker does not take though it takes others; see the log")
ANSWERS = Counter("iot_notifier_answers", "Answers to refused rules and commands, by what became of them", ["outcome"])
HELD = Counter("iot_notifier_held", "Alerts above a user's budget, which are sent in a digest")
UNRECORDED = Counter("iot_notifier_unrecorded", "Alerts published though the database refuses their row")
REPEATS = Counter("iot_notifier_repeats", "Alert events left out: acknowledged before")
INVALID = Counter("iot_notifier_invalid", "Records on the alert topic that are no alert event")
WAITING = Gauge(
    "iot_notifier_waiting_seconds",
    "How long ago the oldest alert in hand was put on the alert topic; 0 when all that was taken is delivered",
    ["group"],
)
IN_HAND = Gauge("iot_notifier_in_hand", "Records taken from the alert topic and not yet done with", ["group"])
LAG = Gauge(
    "iot_notifier_consumer_lag",
    "Records of the alert topic that are not done, of this process's partitions, as of the last fetch",
    ["group"],
)
CONNECTED = Gauge("iot_notifier_connected", "1 while the MQTT broker has accepted the connection")
PUBLISH_SECONDS = Histogram("iot_notifier_publish_seconds", "From PUBLISH to PUBACK", buckets=_ANSWERS)
FAILURES = Counter("iot_notifier_failures", "Steps that failed and were tried again", ["step"])

WEBHOOK_POSTED = Counter("iot_webhook_posted", "Alert events the webhook has taken", ["status"])
WEBHOOK_REFUSED = Counter("iot_webhook_refused", "Alert events the webhook refuses (400, 409, 413, 415, 422); left out")
WEBHOOK_LEFT_OUT = Counter(
    "iot_webhook_left_out", "Alert events the webhook never took, though it took others; left out"
)
WEBHOOK_SECONDS = Histogram(
    "iot_webhook_seconds",
    "Time of one request, by its result: taken, refused for ever, or failed and tried again",
    ["result"],
    buckets=_ANSWERS,
)
CHANNEL_MESSAGES = Counter(
    "iot_channel_messages", "Messages to channels of users (e-mail, chats), by what became of them", ["result"]
)


class Queue(Protocol):
    """What has taken records of the alert topic (app.kafka.group_consumer)."""

    @property
    def open(self) -> int:
        """Records taken and not yet done with."""

    def waiting(self) -> float:
        """Seconds since the oldest of these records was put on the topic; 0: without records."""

    def lag(self) -> int:
        """Records that are not done, of this process's partitions, as of the last fetch."""


def show(group: str, queue: Queue) -> None:
    """Have the gauges of a consumer group (`notifier`, `webhook` or `channels`) read from `queue` whenever metrics are
    asked for.
    """
    WAITING.labels(group).set_function(queue.waiting)
    IN_HAND.labels(group).set_function(lambda: float(queue.open))
    LAG.labels(group).set_function(lambda: float(queue.lag()))
