import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.loadtest.latencies import Latencies

TIMES = st.lists(st.floats(0, 1000), min_size=1, max_size=200)


def of(times: list[float]) -> Latencies:
    made = Latencies()
    for one in times:
        made.add(one)
    return made


@given(TIMES, st.floats(1, 100))
def test_a_percentile_is_at_most_one_bucket_too_high(times: list[float], percent: float) -> None:
    exact = sorted(times)[math.ceil(len(times) * percent / 100) - 1]
    found = of(times).percentile(percent)
    assert exact * 0.999 <= found <= max(exact * 1.05, 1.1e-6)


@given(TIMES, TIMES)
def test_two_together_are_as_one(first: list[float], second: list[float]) -> None:
    together = of(first)
    together.merge(of(second))
    assert together.figures() == of(first + second).figures()


def test_nothing_takes_no_time() -> None:
    assert Latencies().figures() == {"count": 0, "p50": 0, "p90": 0, "p95": 0, "p99": 0, "p99.9": 0, "max": 0}


def test_figures_are_milliseconds() -> None:
    assert of([0.25]).figures()["p50"] == pytest.approx(250, rel=0.05)


def test_memory_is_bounded() -> None:
    made = of([0.000_001 * 1.01**step for step in range(2500)])
    assert len(list(made.cumulative())) < 700
