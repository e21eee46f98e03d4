"""What is stuck, and what only looks like it."""

from typing import Any

import pytest
from faust.types import TP

from app.errors import StuckOffsetError
from app.ops.watchdog import Watchdog

ZERO, ONE = TP("readings", 0), TP("readings", 1)
LIMIT, NOW = 10.0, 1000.0


class Head:
    def __init__(self, in_work: bool, first_offset: int = 7) -> None:
        self.in_work, self.first_offset = in_work, first_offset


def check(lag: dict[TP, int], heads: dict[TP, Any], progress: dict[TP, float]) -> None:
    Watchdog("readings", LIMIT).check(lag, heads, progress, NOW)


LONG_AGO, JUST_NOW = NOW - LIMIT - 1, NOW - LIMIT + 1


@pytest.mark.parametrize(
    ("lag", "heads", "progress"),
    [
        ({}, {}, {}),
        ({ZERO: 0}, {}, {ZERO: LONG_AGO}),  # idle
        ({ZERO: -3}, {}, {ZERO: LONG_AGO}),  # the topic was made anew
        ({ZERO: 5}, {}, {ZERO: JUST_NOW}),
        ({ZERO: 5}, {}, {}),  # not placed yet
        ({ZERO: 5}, {ZERO: Head(in_work=True)}, {ZERO: LONG_AGO}),  # an outage
        ({ZERO: 5}, {ZERO: Head(in_work=False)}, {ZERO: JUST_NOW}),
    ],
)
def test_not_stuck(lag: dict[TP, int], heads: dict[TP, Any], progress: dict[TP, float]) -> None:
    check(lag, heads, progress)


def test_records_wait_and_none_are_fetched() -> None:
    with pytest.raises(StuckOffsetError, match=r"readings-0: no progress for 11 s, nothing is fetched"):
        check({ZERO: 1}, {}, {ZERO: LONG_AGO})


def test_a_batch_is_nowhere_in_work() -> None:
    with pytest.raises(StuckOffsetError, match=r"readings-1: .* batch at offset 7 is nowhere in work"):
        check(
            {ZERO: 9, ONE: 1},
            {ZERO: Head(in_work=True), ONE: Head(in_work=False)},
            {ZERO: LONG_AGO, ONE: LONG_AGO},
        )
