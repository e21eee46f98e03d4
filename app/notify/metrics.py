"""Every metric of the notifier, and of the webhook that it posts to."""

from prometheus_client import Counter, Gauge

PUBLISHED = Counter("iot_notifier_published", "Alert messages acknowledged by the MQTT broker", ["status"])
DELAYED = Counter("iot_notifier_delayed", "Those of them that said they were `delayed`")
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
FAILURES = Counter("iot_notifier_failures", "Steps that failed and were tried again", ["step"])

WEBHOOK_POSTED = Counter("iot_webhook_posted", "Alert events the webhook has taken", ["status"])
WEBHOOK_REFUSED = Counter("iot_webhook_refused", "Alert events the webhook refuses (400, 409, 413, 415, 422); left out")
WEBHOOK_LEFT_OUT = Counter(
    "iot_webhook_left_out", "Alert events the webhook never took, though it took others; left out"
)
