"""How long records have waited, whatever clocks and timestamps say."""

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from app.worker.waiting_time import LOOKS, Waiting, WaitingTimes

TP0 = TP("in", 0)
NOW = 1_795_230_000.0


class Log:
    """A partition, a clock, and what a worker has done of it."""

    def __init__(self) -> None:
        self.times = WaitingTimes()
        self.clock, self.wall, self.epoch = 50.0, NOW, 1
        self.end = self.done = 0
        self.written: list[float] = []  # when each record says it was written

    def passes(self, seconds: float) -> None:
        self.clock += seconds
        self.wall += seconds

    def gets(self, records: int, written: float | None = None) -> None:
        self.written += [self.wall if written is None else written] * records
        self.end += records

    def looks(self) -> None:
        self.times.look(self.epoch, {TP0: self.end}, self.clock)

    def waits(self, fetched: bool = True) -> float:
        return self.now(fetched).seconds

    def now(self, fetched: bool = True) -> Waiting:
        heads: dict[TP, Any] = {}
        if fetched and self.done < self.end:
            first = SimpleNamespace(timestamp=int(self.written[self.done] * 1000))
            heads[TP0] = SimpleNamespace(value=[first], next_offset=self.end)
        return self.times.now(self.epoch, {TP0: self.done}, heads, self.clock, self.wall)[TP0]


@pytest.fixture
def log() -> Log:
    return Log()


def test_nothing_waits(log: Log) -> None:
    assert log.now() == Waiting(0.0, 0, 0, 0)
    log.gets(5)
    log.done = 5
    log.looks()
    log.passes(100)
    assert log.now() == Waiting(0.0, 0, 5, 5)


def test_between_two_looks_the_record_says_when_it_was_written(log: Log) -> None:
    log.looks()
    log.passes(0.5)
    log.gets(3)
    log.passes(0.7)
    assert log.waits() == pytest.approx(0.7, abs=0.002)
    assert log.now().records == 3
    log.passes(0.8)
    log.looks()
    log.passes(20)
    assert log.waits() == pytest.approx(21.5, abs=0.002)
    assert log.waits(fetched=False) == pytest.approx(20.0), "since it was seen there"


def test_the_oldest_of_those_that_are_not_done_counts(log: Log) -> None:
    for _ in range(10):
        log.gets(10)
        log.looks()
        log.passes(2)
    log.done = 75
    assert log.waits() == pytest.approx(6.0, abs=0.002)
    log.done = 100
    assert log.waits() == 0


@pytest.mark.parametrize("step", [-86400.0, -30.0, 30.0, 86400.0, 1e9])
def test_a_clock_that_is_set_makes_nothing_late_nor_hides_it(log: Log, step: float) -> None:
    log.looks()
    log.passes(2)
    log.gets(4)
    log.looks()
    log.wall += step  # of this machine
    log.passes(1)
    assert log.waits() <= 3.0
    log.passes(30)
    assert 31.0 <= log.waits() <= 33.0
    log.done = 4
    log.gets(4, written=log.wall - step)  # of the gateway
    log.looks()
    log.passes(1)
    log.looks()
    assert log.waits() <= 32.0 + 3.0
    log.done = 8
    log.looks()
    log.passes(2)
    log.gets(1, written=log.wall - step)
    log.looks()
    assert log.waits() <= 2.0


@pytest.mark.parametrize("written", [0.0, -1.0, NOW / 1000, NOW * 1000, NOW + 100_000])
def test_a_timestamp_that_is_none_is_not_believed(log: Log, written: float) -> None:
    log.gets(1, written)
    assert log.waits() == 0
    log.looks()
    log.passes(12)
    assert log.waits() == pytest.approx(12.0)


def test_a_gateway_that_had_to_wait_makes_nothing_late(log: Log) -> None:
    """The gateway writes what it took in an hour ago, when Kafka is back."""
    log.looks()
    log.passes(2)
    log.gets(50, written=log.wall - 3600)
    assert log.waits() <= 2.0


def test_what_is_there_at_the_beginning_is_as_old_as_it_says(log: Log) -> None:
    log.gets(5, written=log.wall - 600)
    assert log.waits() == pytest.approx(600, abs=0.002)
    log.looks()
    log.passes(1)
    assert log.waits() == pytest.approx(601, abs=0.002)


def test_another_epoch_begins_anew(log: Log) -> None:
    log.looks()
    log.passes(1000)
    log.epoch += 1
    log.gets(5, written=log.wall - 600)
    assert log.waits() == pytest.approx(600, abs=0.002)
    assert log.waits(fetched=False) == 0


def test_a_backlog_of_days_keeps_few_looks(log: Log) -> None:
    for _ in range(50_000):
        log.gets(1)
        log.looks()
        log.passes(2)
    assert sum(map(len, log.times._looks.values())) <= LOOKS
    assert log.waits() == pytest.approx(100_000, abs=0.01)
    assert log.waits(fetched=False) == pytest.approx(100_000, rel=0.01)
    log.done = 25_000
    assert log.waits() == pytest.approx(50_000, abs=0.01)
    assert log.waits(fetched=False) == pytest.approx(50_000, rel=0.05)
