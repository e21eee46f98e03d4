"""Change of value: which readings are stored, also when their records come again."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.alerts.evaluate import evaluate
from app.core.model.alert_event import AlertEvent
from app.core.model.records import Reading
from app.core.processing.sampled_step import evaluate_sampled
from app.core.sampling.change_of_value import KEPT
from app.core.state.device_state import DeviceState, decode, encode
from app.core.user_config.rulebook import DeviceRules, RuleBook
from tests import DEFAULT
from tests.unit.readings import reading, rule

BAND = {"keys": {"temperature": {"absolute": 1}}, "heartbeat_seconds": 60}


def watch(*policies: dict[str, Any], rules: list[dict[str, object]] | None = None, device: str = "d") -> DeviceRules:
    book = RuleBook(DEFAULT)
    document = {"rules": rules or [], "sampling": {"cov": policies}}
    assert book.apply([("u", msgspec.json.encode(document).decode())]) == []
    return book.watch_for("u", device)


def take(state: DeviceState, one: Reading, watched: DeviceRules, offset: int) -> tuple[tuple[AlertEvent, ...], bool]:
    assert watched.sampling is not None
    return evaluate_sampled(state, one, watched.sampling, watched, offset)


def stored(watched: DeviceRules, *readings: Reading) -> list[int]:
    """Which of them, by their place."""
    state = DeviceState()
    return [offset for offset, one in enumerate(readings) if not take(state, one, watched, offset)[1]]


def at(*values: float | None, seconds: float = 1) -> list[Reading]:
    return [reading(index * seconds, temperature=value) for index, value in enumerate(values)]


@pytest.mark.parametrize(
    ("band", "values", "kept"),
    [
        ({"absolute": 1}, (20, 20.5, 21, 21.25, 20.5, 20.25), [0, 3]),  # beyond, not at; from what was stored
        ({"absolute": 1}, (20, 20.75, 21.5, 22.25, 23), [0, 2, 4]),  # a slow drift does not get away
        ({"absolute": 0}, (20, 20, 20.5, 20.5), [0, 2]),
        ({"percent": 10}, (100, 110, 110.5, 100, 99), [0, 2, 4]),
        ({"percent": 10}, (-100, -110, -111), [0, 2]),
        ({"percent": 10}, (0, 0, 0.001), [0, 2]),
        ({"absolute": 1, "percent": 10}, (100, 111, 111.5), [0, 2]),
        ({"absolute": 1e308}, (1.7e308, -1.7e308, -1.7e308), [0, 1]),
    ],
)
def test_dead_bands(band: dict[str, float], values: tuple[float, ...], kept: list[int]) -> None:
    assert stored(watch({"keys": {"temperature": band}, "heartbeat_seconds": 60}), *at(*values)) == kept


def test_the_heartbeat_is_from_the_reading_stored_last() -> None:
    assert stored(watch(BAND), *at(20, 20, 20, 20, 20, 20, 20, seconds=25)) == [0, 3, 6]
    assert stored(watch(BAND), *at(20, 20, 25, 25, 25, seconds=30)) == [0, 2, 4]


def test_a_key_that_is_missing_says_nothing_and_one_that_cannot_be_compared_is_stored() -> None:
    two = {"keys": {"temperature": {"absolute": 1}, "engine.oil": {"absolute": 1}}, "heartbeat_seconds": 60}
    readings = [
        reading(0, temperature=20),
        reading(1, engine={"oil": 5}),  # the first of this key
        reading(2, temperature=20.5),
        reading(3, engine={"oil": 5.5}),
        reading(4, engine={"oil": "low"}),
        reading(5, engine={"gas": 1}),
        reading(6, temperature=20.5, engine={"oil": 7}),
        reading(7, battery=5),  # neither of them
        reading(8, temperature=21.4, engine={"oil": 7}),
        reading(9, temperature=21.6),
    ]
    assert stored(watch(two), *readings) == [0, 1, 4, 5, 6, 7, 9]


def test_late_readings_are_stored_and_change_nothing() -> None:
    readings = [reading(10, temperature=20), reading(5, temperature=50), reading(11, temperature=20.5)]
    assert stored(watch(BAND), *readings) == [0, 1]


def test_the_first_entry_with_the_device_counts() -> None:
    narrow = {"keys": {"temperature": {"absolute": 0.1}}, "heartbeat_seconds": 60, "devices": ["a*"]}
    assert stored(watch(narrow, BAND, device="a1"), *at(20, 20.5)) == [0, 1]
    assert stored(watch(narrow, BAND, device="b1"), *at(20, 20.5)) == [0]
    assert watch(narrow, device="b1").sampling is None


def test_what_opens_or_ends_an_alert_is_stored() -> None:
    hot = rule("temperature", ">", 80)
    assert stored(watch(BAND, rules=[hot]), *at(79.9, 79.8, 80.1, 80.2, 80, 79.9)) == [0, 2, 4]
    pending = rule("temperature", ">", 80, for_seconds=2, clear_for_seconds=2)
    kept = stored(watch(BAND, rules=[pending]), *at(79.9, 80.1, 80.2, 80.2, 80.2, 80, 80, 80, 80))
    assert kept == [0, 1, 3, 7]  # begins to hold, FIRING, RESOLVED


values = st.lists(
    st.tuples(st.integers(-3, 20), st.none() | st.sampled_from([78.0, 79.0, 79.5, 80.0, 80.5, 81.0, 82.0])),
    min_size=1,
    max_size=80,
)


def walk(steps: list[tuple[int, float | None]]) -> list[Reading]:
    time, readings = 0, []
    for forward, value in steps:
        time += forward
        readings.append(reading(time, temperature=value, battery=50))
    return readings


RULES = [rule("temperature", ">", 80, clear_threshold=79, cooldown_seconds=9), rule("temperature", "<", 79, id="cold")]


@given(values)
def test_alerts_are_those_without_it(steps: list[tuple[int, float | None]]) -> None:
    watched, plain, deduped = watch(BAND, rules=RULES), DeviceState(), DeviceState()
    for offset, one in enumerate(walk(steps)):
        before = set(plain.episodes)
        expected = evaluate(plain, one, watched.rules, offset)
        events, dropped = take(deduped, one, watched, offset)
        assert events == expected
        assert not (dropped and (events or set(plain.episodes) != before))


@given(values)
def test_as_a_list_of_what_was_stored_says(steps: list[tuple[int, float | None]]) -> None:
    watched, state = watch(BAND), DeviceState()
    last: Reading | None = None
    value, newest = None, -1.0
    for offset, one in enumerate(walk(steps)):
        time = one.time.timestamp()
        late = time < newest
        newest = max(newest, time)
        moved = one.temperature is not None and (value is None or abs(one.temperature - value) > 1)
        due = last is None or time - last.time.timestamp() >= 60
        keep = late or moved or due or one.temperature is None
        assert take(state, one, watched, offset)[1] is not keep
        if keep and not late:
            last, value = one, value if one.temperature is None else one.temperature


@given(values, st.data())
def test_records_that_come_again_are_decided_as_the_first_time(
    steps: list[tuple[int, float | None]], data: st.DataObject
) -> None:
    watched, state, readings = watch(BAND, rules=RULES), DeviceState(), walk(steps)
    first: list[bool] = []
    saved = [encode(state)]
    for offset, one in enumerate(readings):
        first.append(take(state, one, watched, offset)[1])
        saved.append(encode(state))
    for _ in range(3):  # a crash: the state of any moment, and records from any offset before it
        have = data.draw(st.integers(0, len(readings)))
        begin = data.draw(st.integers(0, have))
        state = decode(saved[have])
        again = [take(state, readings[offset], watched, offset)[1] for offset in range(begin, len(readings))]
        known = max(begin, state.samples.chain.since if state.samples and state.samples.chain else 0)
        assert again[known - begin :] == first[known:]
        assert not any(again[: known - begin])  # farther back nothing is dropped
        assert encode(state) == saved[-1]


def test_what_is_remembered_is_bounded_and_what_is_older_is_stored() -> None:
    watched, state = watch(BAND), DeviceState()
    for offset in range(1000):  # every second one is stored
        assert take(state, reading(offset, temperature=offset // 2 * 5), watched, offset)[1] is bool(offset % 2)
    assert state.samples is not None
    assert state.samples.chain is not None
    assert len(state.samples.chain.offsets) == KEPT
    assert len(encode(state)) < 300
    again = [take(state, reading(offset, temperature=0), watched, offset)[1] for offset in range(1000)]
    since = state.samples.chain.since
    assert since >= 1000 - 2 * KEPT - 1
    assert not any(again[:since])
    assert again[since:] == [bool(offset % 2) for offset in range(since, 1000)]


def test_another_configuration_begins_anew() -> None:
    state, other = DeviceState(), {"keys": {"battery": {"absolute": 1}}, "heartbeat_seconds": 60}
    assert not take(state, reading(0, temperature=20, battery=9), watch(BAND), 0)[1]
    assert take(state, reading(1, temperature=20, battery=9), watch(BAND), 1)[1]
    assert not take(state, reading(2, temperature=20, battery=9), watch(other), 2)[1]
    assert take(state, reading(3, temperature=90, battery=9), watch(other), 3)[1]
    assert state.samples is not None
    assert state.samples.chain is not None
    assert state.samples.chain.values.keys() == {"battery"}
