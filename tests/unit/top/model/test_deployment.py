"""Answers in, a Snapshot out: rates, totals, books, lag, who is who, and who is down."""

import pytest

from app.top.model.answers import AlertsAnswer, GroupAnswer, PageAnswer
from app.top.model.deployment import Deployment
from app.top.model.snapshot import Snapshot
from tests.unit.top.deployments import WorkerPage, answered, bridge_page, gateway_page

ONE, TWO, BRIDGE = "http://w1:9000", "http://w2:9000", "http://b:9001"


def looked(*rounds: tuple[float, list[PageAnswer]], group: list[GroupAnswer] | None = None) -> Snapshot:
    model = Deployment()
    snapshots = [
        model.take(at, 2000.0 + at, pages, group[number] if group else None)
        for number, (at, pages) in enumerate(rounds)
    ]
    return snapshots[-1]


def test_two_workers_and_a_bridge() -> None:
    def round_of(at: float, rows: int, written: int) -> tuple[float, list[PageAnswer]]:
        one = WorkerPage(stored={0: rows}, lag={0: 5}, online=3, ages=(0.05,) * rows, cpu=at / 2)
        two = WorkerPage(stored={1: 2 * rows}, lag={1: 7}, online=4, dead=rows // 100)
        return at, [
            answered(ONE, at, one.text()),
            answered(TWO, at, two.text(), ready=False),
            answered(BRIDGE, at, bridge_page(written)),
        ]

    found = looked(round_of(10.0, 100, 0), round_of(20.0, 200, 400))
    totals = found.totals
    assert (totals.rows_per_second, totals.messages_per_second, totals.lag) == (30, 40, 12)
    assert (totals.devices_online, totals.breaker) == (7, "closed")
    assert totals.age_p50 == pytest.approx(0.055)
    assert totals.dead_letters_per_hour == pytest.approx(12)
    assert [row.name for row in found.programs] == ["worker 1", "worker 2", "bridge"]
    one, two, bridge = found.programs
    assert (one.per_second, two.per_second, bridge.per_second) == (10, 20, 40)
    assert (one.cpu, one.memory, one.uptime, one.version) == (0.5, 100 << 20, 1020.0, "0.2.0")
    assert (one.ready, two.ready) == (True, False)
    assert [(row.partition, row.lag, row.rows_per_second, row.owner) for row in found.partitions] == [
        (0, 5, 10, "worker 1"),
        (1, 7, 20, "worker 2"),
    ]
    assert found.books.received == 602
    assert found.books.difference == 0


def test_all_ways_in_count_together() -> None:
    def round_of(at: float, many: int) -> tuple[float, list[PageAnswer]]:
        pages = {BRIDGE: bridge_page(many), "http://h:9003": gateway_page("http", 2 * many),
                 "http://q:9006": gateway_page("quic", 3 * many)}  # fmt: skip
        return at, [answered(url, at, page) for url, page in pages.items()]

    found = looked(round_of(10.0, 0), round_of(20.0, 100))
    assert [(row.name, row.per_second) for row in found.programs] == [("bridge", 10), ("http", 20), ("quic", 30)]
    assert found.totals.messages_per_second == 60


def test_a_restart_loses_no_count_and_no_rate_is_negative() -> None:
    first = answered(ONE, 10.0, WorkerPage(stored={0: 500}).text())
    down = PageAnswer(ONE, 11.0, problem="Connection refused")
    again = answered(ONE, 12.0, WorkerPage(born=1011.0, stored={0: 20}).text())
    found = looked((10.0, [first]), (11.0, [down]), (12.0, [again]))
    assert found.totals.rows_per_second == 10
    assert (found.books.rows, found.books.difference) == (520, 0)
    assert found.partitions[0].stored == 520
    while_down = looked((10.0, [first]), (11.0, [down]))
    assert (while_down.books.rows, while_down.totals.rows_per_second) == (500, None)
    (row,) = while_down.programs
    assert (row.name, row.up, row.problem) == ("worker 1", False, "Connection refused")


def test_one_that_is_down_keeps_its_name_and_its_partitions_are_ownerless() -> None:
    pages = [answered(ONE, 1.0, WorkerPage().text()), answered(TWO, 1.0, WorkerPage(stored={2: 0}, lag={2: 0}).text())]
    found = looked((1.0, pages), (2.0, [PageAnswer(ONE, 2.0, problem="x"), answered(TWO, 2.0, WorkerPage().text())]))
    assert [row.name for row in found.programs] == ["worker 1", "worker 2"]
    assert {row.owner for row in found.partitions if row.owner} == {"worker 2"}


def test_books_that_do_not_balance() -> None:
    found = looked((1.0, [answered(ONE, 1.0, WorkerPage(stored={0: 5, 1: 6}, lost=2).text())]))
    assert found.books.difference == 2
    assert [row.difference for row in found.partitions] == [2, 0]


def test_an_answer_is_counted_once_however_often_it_is_shown() -> None:
    first, second = (answered(ONE, at, WorkerPage(stored={0: rows}).text()) for at, rows in ((1.0, 0), (2.0, 100)))
    found = looked((1.0, [first]), (2.0, [second]), (3.0, [second]))
    assert found.books.rows == 100
    assert found.totals.rows_per_second == 100


@pytest.mark.parametrize(("states", "word"), [((0, 0), "closed"), ((0, 1), "open"), ((0.5, 0), "half-open")])
def test_the_worst_breaker(states: tuple[float, float], word: str) -> None:
    pages = [
        answered(url, 1.0, WorkerPage(breaker=state).text()) for url, state in zip((ONE, TWO), states, strict=True)
    ]
    assert looked((1.0, pages)).totals.breaker == word


def test_a_page_without_build_info_is_known_by_its_metrics() -> None:
    pages = [
        answered(ONE, 1.0, b"db_circuit_breaker_state 0\n"),
        answered(TWO, 1.0, b"iot_notifier_suspects 0\n"),
        answered(BRIDGE, 1.0, b"iot_bridge_in_flight 0\n"),
        answered("http://user:secret@other:1", 1.0, b"go_threads 3\n"),
    ]
    assert [row.name for row in looked((1.0, pages)).programs] == ["worker 1", "notifier", "bridge", "other:1"]


def test_what_a_page_says_of_itself_cannot_write_to_the_terminal() -> None:
    page = b'iot_build_info{version="\x1b]0;x",program="\x1b[31m"} 1\n'
    (row,) = looked((1.0, [answered(ONE, 1.0, page)])).programs
    assert "\x1b" not in row.name + row.version


def test_a_group_by_itself() -> None:
    def asked(at: float, end: int, committed: int) -> GroupAnswer:
        return GroupAnswer(
            at, "g", "Stable", 2, ends={0: end, 1: 50}, starts={0: 10}, committed={0: committed, 1: 50},
            owners={0: "a@1.2.3.4", 1: "b@1.2.3.5"}, waiting_since={0: 2000.0 + at - 3, 1: 1.0},
        )  # fmt: skip

    found = looked((10.0, []), (20.0, []), group=[asked(10.0, 100, 40), asked(20.0, 300, 240)])
    assert found.group == "g: Stable, 2 members"
    assert (found.totals.lag, found.totals.lag_seconds, found.totals.messages_per_second) == (60, 3.0, 20)
    first, second = found.partitions
    assert (first.lag, first.owner, first.rows_per_second) == (60, "a@1.2.3.4", 20)
    assert (first.committed, first.end) == (240, 300)
    assert (second.lag, second.lag_seconds) == (0, 0)


def test_what_was_removed_unread_is_no_lag_and_a_topic_made_anew_is_no_negative_rate() -> None:
    anew = GroupAnswer(20.0, "g", "Empty", 0, ends={0: 7}, starts={0: 5}, committed={0: 2})
    found = looked((10.0, []), (20.0, []), group=[GroupAnswer(10.0, "g", ends={0: 900}), anew])
    assert found.partitions[0].lag == 2
    assert found.totals.messages_per_second == 0


def test_the_worker_knows_its_lag_better_than_the_commits() -> None:
    group = GroupAnswer(1.0, "g", "Stable", 1, ends={0: 100, 1: 80}, committed={0: 40})
    found = looked((1.0, [answered(ONE, 1.0, WorkerPage(lag={0: 3}).text())]), group=[group])
    assert [(row.lag, row.owner) for row in found.partitions] == [(3, "worker 1"), (80, "")]


def test_kafka_and_the_database_away() -> None:
    well = GroupAnswer(1.0, "g", "Stable", 1, ends={0: 100})
    found = looked((1.0, []), (2.0, []), group=[well, GroupAnswer(2.0, problem="Kafka at k:9092: gone")])
    assert (found.partitions, found.problems, found.totals.lag) == ((), ("Kafka at k:9092: gone",), None)
    model = Deployment()
    assert model.take(1.0, 1.0, [], alerts=AlertsAnswer(1.0, 4)).totals.open_alerts == 4
    assert model.take(2.0, 2.0, [], alerts=AlertsAnswer(2.0, problem="gone")).problems == ("gone",)
