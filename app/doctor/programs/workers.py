"""Running workers, by their own metrics: do the books balance and only grow, is a worker held up or about to stop.

And the other programs of PROGRAMS: the page of an address shows which program answers.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from app.doctor.finding import Finding, broken, ok, warning
from app.doctor.programs import bridge, gateways, notifier, sinks
from app.doctor.programs.worker_page import Page, read
from app.settings import Settings
from app.settings.process import worker_url

AREA = "worker"
LOG = "the worker's log line operator_needed says what to do"
# Whether a page is of such a program, and what it shows.
PROGRAMS: Sequence[tuple[Callable[[Page], bool], Callable[[Page], list[Finding]]]] = (
    (bridge.is_bridge, bridge.findings),
    (notifier.is_notifier, notifier.findings),
    (gateways.is_gateway, gateways.findings),
    (sinks.is_sink, sinks.findings),
)
BUG = "this is a bug: keep the log, restart the worker, and compare with: iot-stream doctor --count 1000"


async def look(settings: Settings, urls: Sequence[str], apart: float = 0.0, more: Sequence[str] = ()) -> list[Finding]:
    """Read the page of each program, a worker's twice when `apart` seconds are given; no URLs: the address of the
    settings, and `more`. Never raises for a process that does not answer.
    """
    asked = addresses(settings, urls, more)
    if not asked:
        what = "IOT_METRICS_PORT is 0, so the addresses of workers are not known"
        return [warning(AREA, what, "name them: iot-stream doctor --metrics http://host:port")]
    found = [await _look_at(settings, url, apart, named=bool(urls)) for url in asked]
    return [finding for each in found for finding in each]


def addresses(settings: Settings, urls: Sequence[str], more: Sequence[str] = ()) -> Sequence[str]:
    """The addresses that are looked at: `urls`, else the settings' worker and `more`; none when that is not known."""
    own = worker_url(settings)
    return urls or ([own, *more] if own else [])


async def _look_at(settings: Settings, url: str, apart: float, named: bool) -> list[Finding]:
    try:
        page = await asyncio.to_thread(read, url)
        if stranger := of_another_fleet(page, settings):
            return [stranger]
        for is_such, findings in PROGRAMS:
            if is_such(page):
                return findings(page)
        if ("db_circuit_breaker_state", ()) not in page.samples:
            cure = "give the address of a program of iot-stream with --metrics"
            return [broken(AREA, f"{url} is no metrics page of iot-stream", cure)]
        found = [*books(page), *_held(page), *_near_the_limit(page, settings)]
        if apart:
            await asyncio.sleep(apart)
            found += grown(page, await asyncio.to_thread(read, url), apart)
    except (OSError, ValueError) as error:
        who = "worker" if url == worker_url(settings) else "program"
        what = f"no {who} answers at {url}: {error}"
        cure = f"start the {who}, or give the addresses with --metrics"
        return [broken(AREA, what, cure) if named else warning(AREA, what, cure)]
    return found


def of_another_fleet(page: Page, settings: Settings) -> Finding | None:
    """A finding when the process of the page has another IOT_APP than this command: its figures say nothing of the
    fleet that is looked at.
    """
    fleet = page.fleet()
    if fleet is None or fleet == settings.app:
        return None
    what = f"{page.url} is of the fleet {fleet}, and IOT_APP is {settings.app} here"
    return broken(AREA, what, f"give the addresses of {settings.app} with --metrics, or set IOT_APP to {fleet}")


def books(page: Page) -> list[Finding]:
    """Whether received = stored + duplicate + dead_lettered + dropped_by_policy, in each partition: a finding for each
    partition that does not balance, else one for all.
    """
    found, total = [], 0
    for partition, outcomes in sorted(page.ledger().items()):
        received = outcomes.pop("received", 0)
        total += received
        missing = received - sum(outcomes.values())
        if missing:
            sums = " + ".join(f"{name} {count}" for name, count in sorted(outcomes.items())) or "nothing"
            wrong = f"{missing} lost" if missing > 0 else f"{-missing} too many"
            what = (
                f"{page.url}: the books of partition {partition} do not balance: received {received}, {sums}: {wrong}"
            )
            found.append(broken(AREA, what, BUG))
    return found or [ok(AREA, f"{page.url}: the books balance, {total:,} records since its start")]


def grown(before: Page, after: Page, seconds: float) -> list[Finding]:
    """Whether the books have only grown between two looks that were `seconds` apart, and still balance."""
    if before.value("process_start_time_seconds") != after.value("process_start_time_seconds"):
        return [
            warning(AREA, f"{after.url}: the worker was started again meanwhile", "look into its log for the reason")
        ]
    shrunk = [
        f"{outcome} of partition {partition} from {count} to {after.ledger().get(partition, {}).get(outcome, 0)}"
        for partition, outcomes in before.ledger().items()
        for outcome, count in outcomes.items()
        if after.ledger().get(partition, {}).get(outcome, 0) < count
    ]
    if shrunk:
        return [broken(AREA, f"{after.url}: counts went back: {'; '.join(shrunk)}", BUG)]
    more = _received(after) - _received(before)
    wrong = [finding for finding in books(after) if finding.level]
    return wrong or [ok(AREA, f"{after.url}: {more:,} records more after {seconds:g} s, and the books balance")]


def _received(page: Page) -> int:
    return sum(outcomes.get("received", 0) for outcomes in page.ledger().values())


def _held(page: Page) -> list[Finding]:
    """Findings about work that is held up, and by what."""
    found = []
    state = page.value("db_circuit_breaker_state")
    if state:
        word = "open" if state == 1 else "half-open"
        what = f"{page.url}: the circuit breaker is {word}: the database failed, offsets are held"
        found.append(warning(AREA, what, "mend the database; the worker goes on by itself"))
    topics = page.by("iot_kafka_write_held", "topic")
    for topic, held in topics.items():
        if held:
            what = f"{page.url}: Kafka does not take what the worker writes to {topic}; offsets are held"
            found.append(broken(AREA, what, page.advice.get(topic, LOG)))
    if page.value("iot_operator_needed"):
        cure = "; ".join(what for part, what in page.advice.items() if part not in topics) or LOG
        found.append(broken(AREA, f"{page.url}: the worker waits until an operator acts", cure))
    if no := [name for name, well in page.checks.items() if well is False]:
        found.append(warning(AREA, f"{page.url} is not ready: {', '.join(no)}", "see docs/metrics.md on /ready"))
    return found + _lost(page) + _begun_anew(page)


def _lost(page: Page) -> list[Finding]:
    missing: Mapping[str, float] = page.by("iot_offsets_missing_total", "partition")
    if not any(missing.values()):
        return []
    which = ", ".join(f"{partition}: {count:.0f}" for partition, count in missing.items() if count)
    cure = "transactional producers leave such gaps; else raise retention.ms and start more workers"
    return [warning(AREA, f"{page.url}: the log no longer held offsets when they were read ({which})", cure)]


def _near_the_limit(page: Page, settings: Settings) -> list[Finding]:
    row, limit = page.value("iot_dead_letters_in_a_row"), settings.dead_letters_in_a_row
    if not limit or row <= limit / 2:
        return []
    what = f"{page.url}: {row:.0f} dead letters in a row; at {limit} the worker stops"
    return [warning(AREA, what, "read them: docs/deadletters.md")]


def _begun_anew(page: Page) -> list[Finding]:
    """Findings about topics that were replaced, and states that were lost, for as long as the worker runs."""
    topics = page.by("iot_topic_made_anew_total", "topic")
    found = []
    if topics.get("input"):
        what = f"the input topic was replaced or cut: {topics['input']:.0f} partitions began at another offset"
        cure = "see input_topic_made_anew in its log; records of the old log that were not read before are gone"
        found.append(warning(AREA, f"{page.url}: {what}", cure))
    if topics.get("states"):
        what = f"the changelog of states was made again: the states of {topics['states']:.0f} partitions go into it"
        found.append(warning(AREA, f"{page.url}: {what}", "find out who deleted the changelog"))
    if unreadable := page.value("iot_states_unreadable_total"):
        what = f"{unreadable:.0f} stored states could not be read; their devices began without a state"
        cure = "see state_unreadable in the worker's log: a newer program's state, or another writer?"
        found.append(warning(AREA, f"{page.url}: {what}", cure))
    return found
