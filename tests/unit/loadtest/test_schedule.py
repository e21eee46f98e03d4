import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.loadtest.schedule import Profile, Schedule


@given(st.sampled_from(Profile), st.floats(0.1, 30_000), st.floats(1, 100))
def test_messages_are_due_in_order_and_within_the_time(profile: Profile, rate: float, seconds: float) -> None:
    schedule = Schedule(profile, rate, seconds)
    numbers = sorted({0, *(schedule.total * part // 50 for part in range(50)), schedule.total - 1})
    due = [schedule.due(number) for number in numbers]
    assert due == sorted(due)
    assert due[0] == 0
    assert due[-1] <= seconds + 1e-6
    wanted = rate * seconds * (0.55 if profile is Profile.RAMP else 1.0)
    if profile in (Profile.STEADY, Profile.RAMP, Profile.RECONNECT_STORM):
        assert schedule.total == pytest.approx(max(1, wanted), abs=1.001)


def test_a_steady_load_is_even() -> None:
    schedule = Schedule(Profile.STEADY, 200, 60)
    assert schedule.total == 12_000
    assert [schedule.due(number) for number in (0, 1, 200, 11_999)] == pytest.approx([0, 0.005, 1, 59.995])


def test_a_burst_is_five_times_the_rate_in_one_second_of_ten() -> None:
    schedule = Schedule(Profile.BURST, 90, 20)
    assert schedule.total == 1800
    of_second = [sum(1 for _ in group) for _, group in itertools.groupby(int(schedule.due(n)) for n in range(1800))]
    assert [of_second[9], of_second[19]] == [450, 450]
    assert of_second[:9] == [50] * 9


def test_a_ramp_ends_at_the_rate() -> None:
    schedule = Schedule(Profile.RAMP, 100, 10)
    due = [schedule.due(number) for number in range(schedule.total)]
    assert sum(at < 1 for at in due) == pytest.approx(14, abs=2)  # from 10 a second
    assert sum(at >= 9 for at in due) == pytest.approx(96, abs=2)


@given(st.sampled_from(Profile), st.integers(1, 5000))
def test_a_longer_run_begins_as_a_shorter_one(profile: Profile, number: int) -> None:
    if profile is not Profile.RAMP:
        long, short = Schedule(profile, 100, 1000), Schedule(profile, 100, 60)
        assert math.isclose(long.due(number), short.due(number))
