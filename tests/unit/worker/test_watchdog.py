"""What is stuck, and what only looks like it."""

from typing import Any

import pytest
from faust.types import TP

from app.errors import StuckOffsetError
from app.worker.watchdog import Watchdog

ZERO, ONE = TP("readings", 0), TP("readings", 1)
LIMIT = 10.0


class Head:
    def __init__(self, in_work: bool, first_offset: int = 7) -> None:
        self.in_work, self.first_offset = in_work, first_offset


def look(lag: dict[TP, int], heads: dict[TP, Any], times: int = 7, passed: float = 2.0, moved: float = 0.0) -> None:
    """Look that often, each `passed` seconds after the last, while every partition moves `moved` seconds a look."""
    watchdog = Watchdog(LIMIT)
    for turn in range(times):
        watchdog.check(lag, heads, {tp: 100.0 + moved * turn for tp in (ZERO, ONE)}, passed)


@pytest.mark.parametrize(
    ("lag", "heads"),
    [
        ({}, {}),
        ({ZERO: 0}, {}),  # idle
        ({ZERO: -3}, {}),  # the topic was made anew
        ({TP("readings", 2): 5}, {}),  # not placed yet
        ({ZERO: 5}, {ZERO: Head(in_work=True)}),  # an outage
    ],
)
def test_not_stuck(lag: dict[TP, int], heads: dict[TP, Any]) -> None:
    look(lag, heads)


def test_a_partition_that_moves_is_not_stuck() -> None:
    look({ZERO: 5}, {ZERO: Head(in_work=False)}, moved=1.0)


def test_up_to_the_limit_is_not_stuck() -> None:
    look({ZERO: 5}, {}, times=6)  # the first look starts the clock


def test_records_wait_and_none_are_fetched() -> None:
    with pytest.raises(StuckOffsetError, match=r"readings-0: no progress for 12 s, nothing is fetched"):
        look({ZERO: 1}, {})


def test_a_batch_is_nowhere_in_work() -> None:
    with pytest.raises(StuckOffsetError, match=r"readings-1: .* batch at offset 7 is nowhere in work"):
        look({ZERO: 9, ONE: 1}, {ZERO: Head(in_work=True), ONE: Head(in_work=False)})


def test_the_first_record_after_an_hour_is_not_stuck() -> None:
    watchdog = Watchdog(LIMIT)
    for _ in range(1800):
        watchdog.check({ZERO: 0}, {}, {ZERO: 1.0}, 2.0)
    watchdog.check({ZERO: 1}, {}, {ZERO: 1.0}, 2.0)
    watchdog.check({ZERO: 1}, {}, {ZERO: 1.0}, 2.0)


def test_a_suspended_process_is_not_stuck() -> None:
    watchdog = Watchdog(LIMIT)
    watchdog.check({ZERO: 1}, {}, {ZERO: 1.0}, 2.0)
    watchdog.check({ZERO: 1}, {}, {ZERO: 1.0}, 3600.0)


def test_work_in_between_starts_the_clock_again() -> None:
    watchdog = Watchdog(LIMIT)
    for turn in range(20):
        heads: dict[TP, Any] = {ZERO: Head(in_work=turn % 5 == 4)}
        watchdog.check({ZERO: 1}, heads, {ZERO: 1.0}, 2.0)
