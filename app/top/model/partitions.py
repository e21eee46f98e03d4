"""The rows of partitions: what workers and the group say of each partition in; one row a partition out."""

from collections.abc import Mapping

from app.top.model.answers import PageAnswer
from app.top.model.counters import CounterHistory, partition_of
from app.top.model.group_history import GroupHistory
from app.top.model.snapshot import PartitionRow

OUTCOMES = {
    "received": "received", "stored": "stored", "duplicate": "duplicate", "dead_lettered": "dead_lettered",
    "dropped": "dropped_by_policy",
}  # fmt: skip  # field of a PartitionRow -> outcome of iot_ledger_total
Ledger = dict[int, dict[str, float]]


def rows(
    wall: float, workers: Mapping[str, PageAnswer], histories: Mapping[str, CounterHistory], group: GroupHistory
) -> tuple[PartitionRow, ...]:
    """A row for each partition that a worker or the group knows, by number. `workers`: by name, workers that answer;
    `histories`: by URL, also of workers that do not; `wall`: seconds since 1970.

    A worker knows its lag best: records that are done and not yet committed are no lag. Where no worker answers, the
    lag by Kafka's committed offsets is taken.
    """
    lag, owners = group.lag(), dict(group.current.owners)
    seconds = group.lag_seconds(wall)
    for name, page in workers.items():
        own = _numbers(page, "iot_consumer_lag")
        lag, owners = lag | own, owners | dict.fromkeys(own, name)
        seconds |= dict.fromkeys((n for n, records in own.items() if not records), 0.0)
        seconds |= _numbers(page, "iot_consumer_lag_seconds")
    books = _added([history.ledger() for history in histories.values()])
    stored = _added([histories[page.url].ledger_rates() for page in workers.values()])
    rates = {n: stored.get(n, {}).get("stored", 0.0) for n in lag} if stored else group.committed_per_second()
    current = group.current
    return tuple(
        PartitionRow(
            number,
            lag=lag.get(number),
            lag_seconds=seconds.get(number),
            rows_per_second=rates.get(number),
            owner=owners.get(number, ""),
            committed=current.committed.get(number),
            end=current.ends.get(number),
            **{field: books.get(number, {}).get(outcome, 0.0) for field, outcome in OUTCOMES.items()},
        )
        for number in sorted(lag.keys() | books.keys())
    )


def _numbers(page: PageAnswer, metric: str) -> dict[int, float]:
    found = page.samples.by(metric, "partition") if page.samples else {}
    return {n: value for label, value in found.items() if (n := partition_of(label)) is not None}


def _added(ledgers: list[Ledger]) -> Ledger:
    found: Ledger = {}
    for ledger in ledgers:
        for number, outcomes in ledger.items():
            one = found.setdefault(number, {})
            for outcome, count in outcomes.items():
                one[outcome] = one.get(outcome, 0.0) + count
    return found
