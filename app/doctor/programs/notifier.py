"""A running notifier, by its own metrics: do alerts go out, how long do they wait, what will nobody take."""

from app.doctor.finding import Finding, broken, ok, warning
from app.doctor.programs.worker_page import Page

AREA = "notifier"
PAGE = "docs/operations.md"
LONG = 60.0  # seconds that an alert may wait; the alert AlertsWait has the same
_OWN = "iot_notifier_connected"
# What is not well -> what that means, and what to do.
_CHECKS = {
    "kafka": ("cannot read the alert topic", "see the findings on kafka; it goes on by itself"),
    "mqtt": (
        "not connected to the MQTT broker: no alert goes out, alerts wait in Kafka",
        "its log says why: the account, the certificate, or a broker that is away",
    ),
    "database": (
        "does not reach the database, which says what was sent before: alerts wait in Kafka",
        "see the findings on database, and the rights of the notifier's account",
    ),
    "messages": (
        "messages are set aside, as the MQTT broker may not be able to take them",
        f"its log names them; {PAGE} on AlertsLeftOut",
    ),
}


def is_notifier(page: Page) -> bool:
    """Whether the page is a notifier's."""
    return (_OWN, ()) in page.samples


def findings(page: Page) -> list[Finding]:
    """The state of a notifier by its page, and what an operator should look at."""
    sent = sum(page.by("iot_notifier_published_total", "status").values())
    posted = sum(page.by("iot_webhook_posted_total", "status").values())
    behind = sum(page.by("iot_notifier_consumer_lag", "group").values())
    hook = f", {posted:,.0f} taken by the webhook" if posted else ""
    what = f"{sent:,.0f} alerts acknowledged by the MQTT broker{hook}, {behind:,.0f} are not done"
    return [ok(AREA, f"{page.url}: {what}"), *_not_ready(page), *_waiting(page), *_left_out(page)]


def _not_ready(page: Page) -> list[Finding]:
    found = []
    for name, well in page.checks.items():
        if well is False:
            what, cure = _CHECKS.get(name, (f"is not ready: {name}", "its log has the reason"))
            made = warning if name == "messages" else broken
            found.append(made(AREA, f"{page.url}: {what}", cure))
    return found


def _waiting(page: Page) -> list[Finding]:
    waits = page.by("iot_notifier_waiting_seconds", "group")
    found = []
    for group, seconds in sorted(waits.items()):
        if seconds > LONG:
            takes = "the webhook" if "webhook" in group else "the MQTT broker or the database"
            what = f"{page.url}: an alert has waited {seconds:,.0f} s in group {group}, and all behind it"
            found.append(warning(AREA, what, f"look at {takes}: {PAGE} on AlertsWait"))
    return found


def _left_out(page: Page) -> list[Finding]:
    """What never reached anybody, for as long as the notifier runs."""
    found = []
    for name, what, cure in (
        ("iot_notifier_left_out_total", "alerts were left out, as the MQTT broker takes others", "AlertsLeftOut"),
        ("iot_webhook_left_out_total", "alerts were left out, as the webhook takes others", "AlertsLeftOut"),
        ("iot_webhook_refused_total", "alerts are refused by the webhook for ever", "WebhookRefuses"),
        ("iot_notifier_unrecorded_total", "alerts were sent whose row the database refuses", "NotifierFails"),
        ("iot_notifier_invalid_total", "records of the alert topic are no alert events", ""),
    ):
        if count := page.value(name):
            todo = f"its log names them: {PAGE} on {cure}" if cure else "find out who else writes to that topic"
            found.append(warning(AREA, f"{page.url}: {count:,.0f} {what}", todo))
    return found
