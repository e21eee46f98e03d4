"""A running bridge, by its own metrics: does it take from the broker, does Kafka take from it, is anything lost."""

from app.doctor.finding import Finding, broken, ok, warning
from app.doctor.programs.worker_page import Page

AREA = "bridge"
PAGE = "docs/operations.md"
LONG = 60.0  # seconds that a message may wait for Kafka's ack
_OWN = "iot_bridge_connected"


def is_bridge(page: Page) -> bool:
    """Whether the page is a bridge's."""
    return (_OWN, ()) in page.samples


def findings(page: Page) -> list[Finding]:
    """The state of a bridge by its page, and what an operator should look at."""
    taken = sum(page.by("iot_bridge_messages_total", "kind").values())
    acked, held = page.value("iot_bridge_acked_total"), page.value("iot_bridge_in_flight")
    what = f"{taken:,.0f} messages taken, {acked:,.0f} acknowledged after Kafka's ack, {held:,.0f} in hand"
    return [ok(AREA, f"{page.url}: {what}"), *_cut_off(page), *_waiting(page), *_lost(page), *_refused(page)]


def _cut_off(page: Page) -> list[Finding]:
    found = []
    if page.checks.get("mqtt") is False:
        what = f"{page.url}: not connected to the MQTT broker, which keeps the messages up to its queue limit"
        found.append(broken(AREA, what, "its log says why: the account, the certificate, or a broker that is away"))
    if page.checks.get("kafka") is False:
        what = f"{page.url}: Kafka does not take what is written; nothing is acknowledged, the MQTT broker keeps it"
        found.append(broken(AREA, what, "see the findings on kafka, and its log; the bridge goes on by itself"))
    return found


def _waiting(page: Page) -> list[Finding]:
    seconds = page.value("iot_bridge_waiting_seconds")
    if page.value("iot_bridge_paused"):
        what = f"{page.url}: {page.value('iot_bridge_buffered_bytes'):,.0f} bytes wait for Kafka; no more are taken"
    elif seconds > LONG:
        what = f"{page.url}: the oldest message in hand has waited {seconds:,.0f} s for Kafka's ack"
    else:
        return []
    return [warning(AREA, what, "look at Kafka; the MQTT broker keeps the rest up to its queue limit")]


def _lost(page: Page) -> list[Finding]:
    lost = page.value("iot_bridge_sessions_lost_total")
    if not lost:
        return []
    what = f"{page.url}: the broker had forgotten the session at {lost:,.0f} reconnects, and what it had queued"
    return [warning(AREA, what, f"{PAGE} on BridgeSessionLost has the causes: a disk, an expiry, a client id")]


def _refused(page: Page) -> list[Finding]:
    found = []
    for name, why, cure in (
        ("iot_bridge_refused_total", "Kafka refuses for ever", "raise max.message.bytes of the topics"),
        ("iot_bridge_limited_total", "are over a limit of IOT_INGRESS_*", "iot_bridge_top_limited says whose they are"),
    ):
        outcomes = {outcome: count for outcome, count in page.by(name, "outcome").items() if count}
        if outcomes:
            became = ", ".join(f"{outcome} {count:,.0f}" for outcome, count in sorted(outcomes.items()))
            what = f"{page.url}: {sum(outcomes.values()):,.0f} messages {why}: {became}"
            found.append(warning(AREA, what, cure))
    return found
