"""The model: answers of one round in, again and again; out, a Snapshot each time. No I/O, and no clock of its own."""

from collections.abc import Callable, Iterable, Sequence

from app.top.model import partitions, programs, sinks
from app.top.model.answers import AlertsAnswer, GroupAnswer, PageAnswer
from app.top.model.counters import CounterHistory
from app.top.model.group_history import GroupHistory
from app.top.model.samples import MetricSamples, summed
from app.top.model.snapshot import BooksTotal, PartitionRow, Snapshot, Totals
from app.top.model.window import GrowthWindow, quantile

AGE_SECONDS = 60.0  # of which the quantiles of the age are
DEAD_SECONDS = 3600.0
DEAD_LEAST = 300.0  # seconds; one dead letter in the first seconds is no thousand an hour
MOST_LABELS = 12  # reasons of dead letters that are shown
BREAKER = {0.0: "closed", 0.5: "half-open", 1.0: "open"}
_BOOKED = ("rows_stored", "records_carried_out", "rows_duplicate", "dead_letters", "dropped")


class Deployment:
    """All that was seen so far of some addresses and a consumer group."""

    def __init__(self) -> None:
        self._histories: dict[str, CounterHistory] = {}  # by URL
        self._programs: dict[str, str] = {}  # by URL: the program that answered last
        self._taken: dict[str, float] = {}  # by URL: the time of the answer that was counted last
        self._ages, self._dead = GrowthWindow(AGE_SECONDS), GrowthWindow(DEAD_SECONDS)
        self._group = GroupHistory()

    def take(
        self,
        now: float,
        wall: float,
        pages: Sequence[PageAnswer],
        group: GroupAnswer | None = None,
        alerts: AlertsAnswer | None = None,
    ) -> Snapshot:
        """The picture of this moment. `now`: the clock of the answers, in seconds; `wall`: the time of day, seconds
        since 1970. `group`, `alerts` None: not asked. An answer that was taken before is not counted again.
        """
        self._count(now, [page for page in pages if self._is_fresh(page)])
        if group is not None:
            self._group.take(group)
        called = programs.names({page.url: self._programs[page.url] for page in pages})
        up = [page for page in pages if page.samples is not None]
        workers = {called[page.url]: page for page in up if self._programs[page.url] == "worker"}
        rows = partitions.rows(wall, workers, self._histories, self._group)
        return Snapshot(
            at=wall,
            totals=self._totals(now, up, rows, alerts),
            books=self._books(),
            programs=programs.rows(pages, called, self._histories, wall),
            partitions=rows,
            dead_letters=self._counted("iot_dead_letters_total", "reason"),
            alert_events=self._counted("iot_alerts_total", "status"),
            group=self._group.said,
            alerts=alerts.newest if alerts else (),
            sinks=sinks.rows(pages, called, self._histories),
            problems=tuple(one.problem for one in (group, alerts) if one and one.problem),
        )

    def _is_fresh(self, page: PageAnswer) -> bool:
        self._histories.setdefault(page.url, CounterHistory())
        self._programs.setdefault(page.url, "")
        known = self._taken.get(page.url) == page.at
        self._taken[page.url] = page.at
        return not known and page.samples is not None

    def _count(self, now: float, fresh: Sequence[PageAnswer]) -> None:
        ages: dict[str, float] = {}
        dead = 0.0
        for page in fresh:
            assert page.samples
            history = self._histories[page.url]
            history.take(page.samples, page.at)
            self._programs[page.url] = programs.program_of(page.samples)
            dead += history.more("iot_dead_letters_total")
            for le, more in history.grown_by("iot_event_age_seconds_bucket", "le").items():
                ages[le] = ages.get(le, 0.0) + more
        self._ages.add(now, ages)
        self._dead.add(now, {"dead": dead})

    def _totals(
        self, now: float, up: Sequence[PageAnswer], rows: Sequence[PartitionRow], alerts: AlertsAnswer | None
    ) -> Totals:
        ages, dead = self._ages.sums(), self._dead.rate(now, DEAD_LEAST)
        workers = [page for page in up if self._programs[page.url] == "worker"]
        states = [page.samples.value("db_circuit_breaker_state") or 0.0 for page in workers if page.samples]
        arriving = (
            self._group.messages_per_second(),
            self._written(up),
            self._rate(workers, "iot_messages_received_total"),
        )
        return Totals(
            rows_per_second=self._rate(workers, "iot_rows_stored_total"),
            messages_per_second=next((rate for rate in arriving if rate is not None), None),
            lag=_known((row.lag for row in rows), sum),
            lag_seconds=_known((row.lag_seconds for row in rows), max),
            age_p50=quantile(0.5, ages),
            age_p99=quantile(0.99, ages),
            breaker=BREAKER.get(max(states), "?") if states else "",
            dead_letters_per_hour=dead * 3600 if dead is not None and workers else None,
            open_alerts=alerts.count if alerts else None,
            devices_online=_known((_devices(page.samples) for page in workers), sum),
        )

    def _written(self, pages: Iterable[PageAnswer]) -> float | None:
        """Records a second that all ways in have had acknowledged by Kafka."""
        ways = [
            (page.url, programs.WORK[one]) for page in pages if (one := self._programs[page.url]) in programs.WAYS_IN
        ]
        return _known((self._histories[url].rate(name) for url, name in ways), sum)

    def _rate(self, pages: Iterable[PageAnswer], name: str) -> float | None:
        rates = (self._histories[page.url].rate(name) for page in pages)
        return _known(rates, sum)

    def _books(self) -> BooksTotal:
        """The books of every worker that ever answered: the counts of a worker stay when it is down."""

        def total(name: str) -> float:
            return sum(history.total(f"iot_{name}_total") for history in self._histories.values())

        received, (rows, carried_out, duplicate, dead, dropped) = total("messages_received"), map(total, _BOOKED)
        difference = received - rows - carried_out - duplicate - dead - dropped
        return BooksTotal(received, rows, carried_out, duplicate, dead, dropped, difference)

    def _counted(self, name: str, label: str) -> dict[str, float]:
        """Counts that are not 0, by label, over all workers; the largest, where labels are words of others."""
        found: dict[str, float] = {}
        for history in self._histories.values():
            for value, count in summed(history.totals, name, label).items():
                shown = programs.plain_text(value, 20)
                found[shown] = found.get(shown, 0.0) + count
        most = sorted(found, key=lambda value: -found[value])[:MOST_LABELS]
        return {value: found[value] for value in sorted(most) if found[value]}


def _devices(samples: MetricSamples | None) -> float | None:
    return samples.value("iot_devices_online") if samples else None


def _known(values: Iterable[float | None], together: Callable[[list[float]], float]) -> float | None:
    """The known values, taken together; None when none is known."""
    known = [value for value in values if value is not None]
    return together(known) if known else None
