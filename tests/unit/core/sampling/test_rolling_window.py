"""Rolling windows against a list of all readings."""

import sys
from fractions import Fraction
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core.sampling.rolling_window import BUCKETS, RollingWindow, WindowStats, bucket_of

SECOND = 1_000_000
numbers = st.floats(allow_nan=False, allow_infinity=False)


class Naive(NamedTuple):
    """Everything that was read, with the newest time before it."""

    seconds: int
    read: list[tuple[int, float | None, int]]  # time, value if it had one, newest time up to it

    def figures(self) -> tuple[int, float, float, float] | None:
        """Of the parts that the newest reading's time leaves covered."""
        newest = max(time for time, _, _ in self.read) * BUCKETS // (self.seconds * SECOND)
        found = []
        for time, value, seen in self.read:
            part, then = time * BUCKETS // (self.seconds * SECOND), seen * BUCKETS // (self.seconds * SECOND)
            if value is not None and part > newest - BUCKETS and part > then - BUCKETS:
                found.append(value)
        if not found:
            return None
        mean = float(sum(map(Fraction, found)) / len(found))  # exact: a sum of floats can exceed the largest of them
        return len(found), mean, min(found), max(found)


@given(
    st.sampled_from([1, 7, 60, 3600]),
    st.lists(st.tuples(st.integers(0, 400), st.none() | numbers), min_size=1, max_size=60),
    st.integers(0, 60),
)
@example(1, [(0, sys.float_info.max)] * 3, 0)  # of which a third, taken thrice, is infinite
def test_any_order_is_as_a_list_says(seconds: int, readings: list[tuple[int, float | None]], cut: int) -> None:
    window, naive = RollingWindow(), Naive(seconds, [])
    newest = 0
    for index, (tenths, value) in enumerate(readings):
        time = 1_700_000_000 * SECOND + tenths * seconds * SECOND // 40  # ten windows
        newest = max(newest, time)
        naive.read.append((time, value, newest))
        number = bucket_of(time, seconds)
        if value is None:
            window.move(number)
        else:
            window.add(number, value)
        if index == cut:  # stored and loaded
            window = msgspec.msgpack.decode(msgspec.msgpack.encode(window), type=RollingWindow)
        assert len(window.buckets) <= BUCKETS
        found, expected = window.figures(), naive.figures()
        if expected is None:
            assert found is None
            continue
        assert found is not None
        assert (found.readings, found.least, found.greatest) == (expected[0], expected[2], expected[3])
        spread = max(abs(expected[2]), abs(expected[3]))
        assert found.mean == pytest.approx(expected[1], rel=1e-9, abs=max(1e-300, spread * 1e-9))
        assert found.least <= found.mean <= found.greatest


def test_a_minute_reaches_55_to_60_seconds_back() -> None:
    window = RollingWindow()
    for second in range(121):
        window.add(bucket_of(second * SECOND, 60), second)
    assert window.figures() == WindowStats(56, 92.5, 65, 120)  # 120 is the first second of its part
    window.move(bucket_of(124 * SECOND, 60))
    assert window.figures() == WindowStats(56, 92.5, 65, 120)
    window.move(bucket_of(125 * SECOND, 60))
    assert window.figures() == WindowStats(51, 95, 70, 120)
    window.add(bucket_of(69_999_999, 60), 1000)  # no part of it any more
    window.add(bucket_of(70 * SECOND, 60), 69)
    assert window.figures() == WindowStats(52, 94.5, 69, 120)
    window.move(bucket_of(10_000 * SECOND, 60))
    assert window.figures() is None


def test_the_largest_numbers_do_not_overflow() -> None:
    window = RollingWindow()
    for value in (1.7e308, 1.7e308, -1.7e308, 1.7e308):
        window.add(5, value)
    figures = window.figures()
    assert figures is not None
    assert figures.mean == pytest.approx(0.85e308)
