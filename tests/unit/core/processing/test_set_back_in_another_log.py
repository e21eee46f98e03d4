"""A partition that has another log may hold again what was read before: no clock is believed to be set back by that."""

from datetime import UTC, datetime, timedelta

from app.core.state.device_state import DeviceState, decode, encode

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_a_state_that_begins_anew_says_so_until_a_reading_is_not_late() -> None:
    state = DeviceState(applied_offset=7, latest=NOON)
    state.begin_anew(1)
    assert state.back is not None
    assert state.back.anew
    again = decode(encode(state))
    assert again.back is not None
    assert again.back.anew


def test_a_state_without_a_reading_begins_as_a_new_one() -> None:
    state = DeviceState(applied_offset=7)
    state.begin_anew(1)
    assert state.back is None
    assert state.latest < NOON - timedelta(days=1)
