"""Counters over restarts: never negative, nothing counted twice, and books that balance go on balancing."""

import pytest

from app.top.model.counters import MOST_SERIES, CounterHistory, partition_of
from app.top.model.samples import MetricSamples, parse
from tests.unit.top.deployments import WorkerPage


def after(*pages: tuple[float, MetricSamples]) -> CounterHistory:
    history = CounterHistory()
    for at, samples in pages:
        history.take(samples, at)
    return history


def page(rows: int, born: float = 1000.0, dead: int = 0) -> MetricSamples:
    return parse(WorkerPage(born=born, stored={0: rows}, dead=dead).text())


def test_a_single_page_has_totals_and_no_rate() -> None:
    history = after((10.0, page(500)))
    assert history.total("iot_rows_stored_total") == 500
    assert history.rate("iot_rows_stored_total") is None
    assert history.ledger_rates() == {}


def test_rate_is_growth_over_time() -> None:
    history = after((10.0, page(500)), (12.0, page(700)))
    assert history.rate("iot_rows_stored_total") == 100
    assert history.ledger_rates()[0]["stored"] == 100
    assert history.total("iot_rows_stored_total") == 700


@pytest.mark.parametrize("rows", [30, 700, 9000])
def test_a_restart_counts_from_zero_however_much_was_counted_since(rows: int) -> None:
    """Counts of the new process may be above those of the old one by the next look; the start time shows that."""
    history = after((10.0, page(500)), (12.0, page(rows, born=1011.0)))
    assert history.rate("iot_rows_stored_total") == rows / 2
    assert history.total("iot_rows_stored_total") == 500 + rows


def test_without_a_start_time_a_count_that_went_back_is_a_restart_of_all() -> None:
    first, second = (
        parse(b"iot_rows_stored_total 500\niot_dead_letters_total 5\n"),
        parse(b"iot_rows_stored_total 30\niot_dead_letters_total 6\n"),
    )
    history = after((10.0, first), (12.0, second))
    assert history.rate("iot_rows_stored_total") == 15
    assert history.total("iot_rows_stored_total") == 530
    assert history.total("iot_dead_letters_total") == 11, "as Prometheus would not have it, but the books do"


def test_books_balance_over_a_restart() -> None:
    history = after((10.0, page(500, dead=5)), (12.0, page(900, born=1011.0, dead=1)), (14.0, page(950, 1011.0, 2)))
    (ledger,) = history.ledger().values()
    assert ledger["received"] == ledger["stored"] + ledger["dead_lettered"] == 500 + 5 + 950 + 2


def test_a_series_that_is_new_has_grown_from_zero() -> None:
    history = after((10.0, page(5)), (11.0, parse(WorkerPage(stored={0: 5, 7: 20}).text())))
    assert history.ledger_rates()[7]["stored"] == 20


def test_an_outage_is_averaged_over() -> None:
    assert after((10.0, page(0)), (110.0, page(1000))).rate("iot_rows_stored_total") == 10


def test_memory_is_bounded_when_labels_change_at_every_look() -> None:
    history = CounterHistory()
    for look in range(4):
        page = "".join(f'iot_x_total{{a="{look}-{n}"}} 1\n' for n in range(MOST_SERIES // 3))
        history.take(parse(page.encode()), float(look))
    assert len(history.totals) <= MOST_SERIES


@pytest.mark.parametrize(
    ("label", "number"), [("0", 0), ("11", 11), ("", None), ("-1", None), ("x", None), ("٣", None), ("9" * 30, None)]
)
def test_partition_of_a_label(label: str, number: int | None) -> None:
    assert partition_of(label) == number
