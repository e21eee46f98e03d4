"""A running sink, by its own words: does its destination take what comes, do its books balance, what does it drop."""

from collections.abc import Mapping

from app.doctor.finding import Finding, broken, ok, warning
from app.doctor.programs.worker_page import Page

AREA = "sink"
PAGE = "docs/sinks.md"
NEAR = 0.8  # share of the series that a sink may have, from which on it is told
_OWN = "iot_sink_breaker_state"


def is_sink(page: Page) -> bool:
    """Whether it is a page of a sink."""
    return bool(_sinks(page))


def findings(page: Page) -> list[Finding]:
    """How the sinks of a page are, and what somebody should look at."""
    found = [finding for sink in _sinks(page) for finding in _of_sink(page, sink)]
    if no := [name for name, well in page.checks.items() if well is False]:
        found.append(warning(AREA, f"{page.url} is not ready: {', '.join(no)}", _advice(page)))
    return found


def _sinks(page: Page) -> list[str]:
    return sorted(dict(labels).get("sink", "") for name, labels in page.samples if name == _OWN)


def _of_sink(page: Page, sink: str) -> list[Finding]:
    received, held = _value(page, "iot_sink_received_total", sink), _value(page, "iot_sink_held_records", sink)
    outcomes = _by(page, "iot_sink_records_total", sink, "outcome")
    missing = received - held - sum(outcomes.values())
    where = f"{page.url}: {sink}"
    if missing:
        sums = " + ".join(f"{name} {count:,.0f}" for name, count in sorted(outcomes.items()))
        what = f"{where}: the books do not balance: received {received:,.0f}, {sums} + held {held:,.0f}"
        cure = "ask once more; if it stays, this is a bug: keep the log, and compare the destination with the topic"
        books = broken(AREA, what, cure)
    else:
        what = (
            f"the books balance, {outcomes.get('written', 0):,.0f} written of {received:,.0f} records since its start"
        )
        books = ok(AREA, f"{where}: {what}, {_value(page, 'iot_sink_lag', sink):,.0f} are not done")
    more = [*_begun_anew(page, sink, where), *_refused(outcomes, where), *_series(page, sink, where)]
    return [books, *_held_up(page, sink, where), *more]


def _held_up(page: Page, sink: str, where: str) -> list[Finding]:
    state = _value(page, _OWN, sink)
    if not state:
        return []
    what = f"{where}: the circuit is {'open' if state == 1 else 'half-open'}: its destination is away, Kafka keeps it"
    return [warning(AREA, what, _advice(page))]


def _begun_anew(page: Page, sink: str, where: str) -> list[Finding]:
    """What Kafka had lost: said for as long as the sink runs."""
    found = []
    if partitions := _value(page, "iot_sink_topic_made_anew_total", sink):
        what = (
            f"{where}: the input topic is another one than before, or was cut: {partitions:.0f} partitions began anew"
        )
        cure = "see sink_topic_made_anew in its log; what Kafka lost before it was read is gone: have it sent again"
        found.append(warning(AREA, what, cure))
    if missed := _value(page, "iot_sink_missed_total", sink):
        what = f"{where}: Kafka had removed {missed:,.0f} records before they were read"
        found.append(broken(AREA, what, "raise retention.ms of the input topic above the longest outage"))
    return found


def _refused(outcomes: Mapping[str, float], where: str) -> list[Finding]:
    if not outcomes.get("refused"):
        return []
    what = f"{where}: its destination refuses {outcomes['refused']:,.0f} records for ever; they are dead letters"
    return [warning(AREA, what, "read them: iot-stream tap --topic dlq, reason sink_refused")]


def _series(page: Page, sink: str, where: str) -> list[Finding]:
    known, limit = _value(page, "iot_sink_series", sink), _value(page, "iot_sink_series_limit", sink)
    dropped = _by(page, "iot_sink_series_dropped_total", sink, "limit")
    if sum(dropped.values()):
        what = f"{where}: {sum(dropped.values()):,.0f} values of new series were dropped ({_most(dropped)})"
        users = _by(page, "iot_sink_top_series_dropped", sink, "user")
    elif limit and known > NEAR * limit:
        what = f"{where}: it knows {known:,.0f} series, and may {limit:,.0f}"
        users = _by(page, "iot_sink_top_series", sink, "user")
    else:
        return []
    cure = f"users with most: {_most(users)}; see {PAGE} on series" if _most(users) else f"see {PAGE} on series"
    return [warning(AREA, what, cure)]


def _advice(page: Page) -> str:
    return "; ".join(page.advice.values()) or f"its log has the reason; it goes on by itself: {PAGE}"


def _value(page: Page, name: str, sink: str) -> float:
    return page.samples.get((name, (("sink", sink),)), 0.0)


def _by(page: Page, name: str, sink: str, label: str) -> dict[str, float]:
    found = {}
    for (sample, labels), value in page.samples.items():
        one = dict(labels) if sample == name else {}
        if one.get("sink") == sink:
            found[one.get(label, "")] = value
    return found


def _most(counts: Mapping[str, float]) -> str:
    most = sorted(counts.items(), key=lambda one: -one[1])[:3]
    return ", ".join(f"{name} {count:,.0f}" for name, count in most if count)
