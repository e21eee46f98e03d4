"""A running gateway, by its own metrics: does it take records, and whom does it refuse."""

from collections.abc import Mapping

from app.doctor.finding import Finding, ok, warning
from app.doctor.programs.worker_page import Page

AREA = "gateway"
MUCH = 0.01  # share of what is sent that a healthy fleet has refused at most
PAGE = "docs/gateways.md"
_OWN = "iot_gateway_unacked_bytes"


def is_gateway(page: Page) -> bool:
    """Whether the page is a gateway's."""
    return (_OWN, ()) in page.samples


def findings(page: Page) -> list[Finding]:
    """The state of a gateway by its page, and what an operator should look at."""
    accepted = sum(page.by("iot_gateway_records_total", "gateway").values())
    open_ = sum(page.by("iot_gateway_connections", "gateway").values())
    what = f"{accepted:,.0f} records acknowledged by Kafka and answered, {open_:,.0f} connections"
    return [ok(AREA, f"{page.url}: {what}"), *_held(page), *_refused(page, accepted), *_logins(page)]


def _held(page: Page) -> list[Finding]:
    found = []
    if no := [name for name, well in page.checks.items() if well is False]:
        found.append(warning(AREA, f"{page.url} is not ready: {', '.join(no)}", f"see {PAGE} on /ready"))
    if page.value("iot_gateway_full"):
        what = f"{page.url}: {page.value(_OWN):,.0f} bytes wait for Kafka, so nothing more is taken"
        found.append(
            warning(AREA, what, "look at Kafka; senders wait, or are answered that they have to send again later")
        )
    return found


def _refused(page: Page, accepted: float) -> list[Finding]:
    reasons = page.by("iot_gateway_rejected_total", "reason")
    rejected = sum(reasons.values())
    if rejected <= MUCH * (accepted + rejected):
        return []
    what = (
        f"{page.url}: {rejected:,.0f} of {accepted + rejected:,.0f} records and requests were refused: {_most(reasons)}"
    )
    return [warning(AREA, what, f"senders were sent the reasons; {PAGE} explains each")]


def _logins(page: Page) -> list[Finding]:
    found, reasons = [], page.by("iot_gateway_refused_logins_total", "reason")
    if reasons.get("slowed_down"):
        what = f"{page.url}: {reasons['slowed_down']:,.0f} logins were put off, as too many had failed before them"
        found.append(warning(AREA, what, "a device with an old password, or a guesser; see the log"))
    if reasons.get("unavailable"):
        what = f"{page.url}: {reasons['unavailable']:,.0f} logins could not be decided: the database did not answer"
        found.append(warning(AREA, what, "see the findings on the database; known accounts are remembered meanwhile"))
    return found


def _most(reasons: Mapping[str, float]) -> str:
    most = sorted(reasons.items(), key=lambda one: -one[1])[:3]
    return ", ".join(f"{reason} {count:,.0f}" for reason, count in most if count)
