"""Records that wait too long, in words: once a minute and partition, and when it is over."""

import re
from typing import Any

import pytest
from faust.types import TP
from structlog.testing import capture_logs

from app.worker.late_records import LateRecords, known_cause
from app.worker.waiting_time import Waiting

ZERO, ONE = TP("in", 0), TP("in", 1)


class Watch:
    """Looks each second; the lines it wrote."""

    def __init__(self, limit: float = 10.0) -> None:
        self.late, self.clock = LateRecords(limit), 100.0
        self.held: set[str] = set()
        self.open, self.answers = False, True

    def sees(self, seconds: float, tp: TP = ZERO, *, records: int = 7, done: int = 0, end: int = 0) -> list[Any]:
        return self.sees_all({tp: Waiting(seconds, records, done, end)})

    def sees_all(self, waiting: dict[TP, Waiting]) -> list[Any]:
        self.clock += 1
        with capture_logs() as lines:
            self.late.look(waiting, known_cause(self.open, self.answers, self.held), self.clock)
        return lines


def test_a_line_a_minute_and_one_when_it_is_over() -> None:
    watch, lines = Watch(), []
    for second in range(200):
        lines += [(second, line["event"]) for line in watch.sees(float(second))]
    assert lines == [(12, "records_late"), (72, "records_late"), (132, "records_late"), (192, "records_late")]
    assert watch.sees(5.1) == []
    (line,) = watch.sees(5.0)
    assert (line["event"], line["partition"], line["late_for_seconds"]) == ("records_on_time", 0, 201)
    assert watch.sees(0.0) == []


def test_who_is_late_at_one_look_alone_is_not_reported() -> None:
    watch = Watch()
    for _ in range(50):
        assert watch.sees(11.0) == []
        assert watch.sees(9.0) == []


def test_around_the_limit_the_lines_do_not_alternate() -> None:
    watch = Watch()
    lines = [line["event"] for second in range(59) for line in watch.sees(9.0 if second % 3 else 11.0)]
    lines += [line["event"] for second in range(50) for line in watch.sees(9.0 if second % 5 > 1 else 11.0)]
    assert lines == ["records_late"]


def test_each_partition_has_its_own_lines() -> None:
    watch = Watch()
    watch.sees_all({ZERO: Waiting(20.0, 1, 0, 1), ONE: Waiting(1.0, 1, 0, 1)})
    lines = watch.sees_all({ZERO: Waiting(21.0, 1, 0, 1), ONE: Waiting(12.0, 1, 0, 1)})
    lines += watch.sees_all({ZERO: Waiting(22.0, 1, 0, 1), ONE: Waiting(13.0, 1, 0, 1)})
    assert [(line["partition"], line["seconds"]) for line in lines] == [(0, 21.0), (1, 13.0)]


def test_a_partition_that_went_is_another_workers_to_report() -> None:
    watch = Watch()
    watch.sees(20.0)
    assert len(watch.sees(20.0)) == 1
    assert watch.sees(0.0, ONE) == []
    assert watch.sees(0.0, ZERO) == [], "the partition came back, and nothing was said of it since"


@pytest.mark.parametrize(
    ("is_open", "held", "done", "end", "words"),
    [
        (True, {"writes"}, 0, 0, "circuit breaker is open"),
        (False, {"rules", "iot-alerts"}, 0, 0, "held up, see /ready: iot-alerts, rules"),
        (False, set(), 0, 500, "nothing is done"),
        (False, set(), 900, 300, "catching up.* even in about 10 s"),
        (False, set(), 300, 900, "more comes in than is done"),
    ],
)
def test_it_says_why(is_open: bool, held: set[str], done: int, end: int, words: str) -> None:
    watch = Watch()
    watch.open, watch.held = is_open, held
    watch.sees(11.0, records=6000, done=1000, end=7000)
    (line,) = watch.sees(12.0, records=6000, done=1000 + done, end=7000 + end)
    assert (line["records"], line["done_per_second"], line["coming_per_second"]) == (6000, done, end)
    assert pytest.approx(12.0) == line["seconds"]
    assert re.search(words, line["cause"])


def test_kafka_that_does_not_answer_is_the_cause() -> None:
    watch = Watch()
    watch.answers, watch.held = False, {"iot-alerts"}
    watch.sees(11.0)
    (line,) = watch.sees(12.0)
    assert line["cause"].startswith("Kafka does not answer")


def test_nobody_is_warned_where_the_limit_is_0() -> None:
    watch = Watch(0.0)
    assert [watch.sees(1000.0) for _ in range(3)] == [[], [], []]
