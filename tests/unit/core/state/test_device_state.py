"""One step after another: which readings alert, which are ignored, and what the encoding keeps."""

import math
from dataclasses import replace

import msgspec
import pytest

from app.core.alerts.evaluate import evaluate
from app.core.model.alert_event import AlertEvent, alert_id
from app.core.model.records import Reading
from app.core.rules.rule import Rule
from app.core.sampling.change_of_value import StoredChain
from app.core.sampling.rolling_window import RollingWindow
from app.core.state.device_state import DeviceState, at_rest, decode, encode
from app.core.state.episode import Episode
from app.core.state.samples import Samples
from app.errors import PermanentError
from tests.unit.readings import START, reading, rule, rules

HOT = rules(rule())
COUNTED = 1_735_689_600_000_000  # START in microseconds since 1970


def reported(events: tuple[AlertEvent, ...]) -> list[str]:
    """The events as `rule STATUS value`, with the cause when there is one."""
    return [f"{e.rule_id} {e.status} {e.value}" + (f" {e.cause}" if e.cause else "") for e in events]


def run(
    state: DeviceState, given: tuple[Rule, ...], *readings: Reading, offset: int | None = None
) -> tuple[AlertEvent, ...]:
    """Step readings at consecutive offsets, the state encoded and decoded between any two."""
    offset = state.applied_offset + 1 if offset is None else offset
    events: tuple[AlertEvent, ...] = ()
    for number, one in enumerate(readings):
        copy = decode(encode(state))
        assert replace(copy, persisted_offset=0) == replace(state, persisted_offset=0, episodes_changed=False)
        events += evaluate(state, one, given, offset + number)
    return events


def temperatures(*values: float | None, start: float = 0) -> list[Reading]:
    return [reading(start + number, temperature=value) for number, value in enumerate(values)]


def test_one_firing_and_one_resolved_an_episode() -> None:
    events = run(DeviceState(), HOT, *temperatures(70, 81, 95, 82, 80, 70, 81))
    assert reported(events) == ["temperature FIRING 81", "temperature RESOLVED 80", "temperature FIRING 81"]
    first, resolved, second = events
    assert first.alert_id == resolved.alert_id != second.alert_id
    assert (first.event_time, resolved.event_time) == (reading(1).time, reading(4).time)
    assert first.first_seen == resolved.first_seen == reading(1).time
    assert (first.user_id, first.device_id, first.severity, first.message, first.threshold) == (
        "u",
        "d",
        "warning",
        "m",
        80,
    )


def test_rules_have_their_own_episodes_and_alert_in_their_order() -> None:
    both = rules(rule(), rule("battery", "<", 10), rule("door", "==", "open"))
    all_hold = reading(temperature=90, battery=5, door="open")
    two_hold = reading(1, temperature=90, battery=50, door="open")
    none_holds = reading(2, temperature=9, battery=50, door="shut")
    events = run(DeviceState(), both, all_hold, two_hold, none_holds)
    assert reported(events) == [
        "temperature FIRING 90", "battery FIRING 5", "door FIRING open",
        "battery RESOLVED 50", "temperature RESOLVED 9", "door RESOLVED shut",
    ]  # fmt: skip
    assert len({event.alert_id for event in events}) == 3


@pytest.mark.parametrize("unknown", [reading(1), reading(1, temperature=math.nan), reading(1, temperature=math.inf)])
def test_a_value_that_cannot_be_judged_changes_no_episode(unknown: Reading) -> None:
    assert run(DeviceState(), HOT, unknown) == ()
    assert reported(run(DeviceState(), HOT, reading(temperature=81), unknown)) == ["temperature FIRING 81"]


def test_integers_beyond_float64_are_not_judged() -> None:
    huge = reading(f=msgspec.Raw(b"1" + b"0" * 400))
    state = DeviceState()
    assert run(state, rules(rule("f")), huge) == ()
    assert reported(run(state, rules(rule("f")), reading(1, f=10**30))) == ["f FIRING 1e+30"]
    assert decode(encode(state)).episodes == state.episodes


def test_clear_threshold_holds_the_episode_open() -> None:
    damped = rules(rule(clear_threshold=75), rule(operator="<", threshold=5, clear_threshold=8, id="cold"))
    events = run(DeviceState(), damped, *temperatures(76, 81, 76, 75.5, 75, 80, 4, 6, 7.5, 8))
    assert reported(events) == ["temperature FIRING 81", "temperature RESOLVED 75", "cold FIRING 4", "cold RESOLVED 8"]


def test_an_offset_applied_before_is_silent() -> None:
    state = DeviceState()
    first = run(state, HOT, *temperatures(81, 70, 90), offset=10)
    assert len(first) == 3
    before = encode(state)
    assert run(state, HOT, *temperatures(81, 70, 90), offset=10) == ()
    assert run(state, HOT, *temperatures(1, 99, start=50), offset=3) == ()
    assert run(state, HOT, reading(60, temperature=1), offset=12) == ()
    assert encode(state) == before


def test_a_late_reading_moves_the_offset_alone() -> None:
    state = DeviceState()
    assert len(run(state, HOT, reading(100, temperature=81))) == 1
    late = reading(99.999999, temperature=20)
    assert evaluate(state, late, HOT, 7) == ()
    assert evaluate(state, late, (), 8) == ()
    assert (state.applied_offset, state.latest_time) == (8, COUNTED + 100_000_000)
    assert state.episodes["temperature"].last_seen == COUNTED + 100_000_000


def test_readings_with_one_time_count_in_offset_order_with_ids_of_their_own() -> None:
    state = DeviceState()
    same = [reading(5, temperature=value) for value in (81, 70, 82, 71, 83)]
    events = run(state, HOT, *same)
    assert reported(events) == [f"temperature {status} {value}" for status, value in (
        ("FIRING", 81), ("RESOLVED", 70), ("FIRING", 82), ("RESOLVED", 71), ("FIRING", 83))]  # fmt: skip
    assert len({(event.alert_id, event.status) for event in events}) == 5
    assert len({event.alert_id for event in events}) == 3
    later = run(state, HOT, *temperatures(70, 90, 70, start=6))
    assert len({event.alert_id for event in (*events, *later)}) == 4
    assert state.instants == {}


def test_the_first_episode_of_a_later_instant_has_the_plain_id() -> None:
    state = DeviceState()
    run(state, HOT, reading(5, temperature=81), reading(5, temperature=70))
    (later,) = run(state, HOT, reading(7, temperature=90))
    assert later.alert_id == alert_id("u", "d", "temperature", COUNTED + 7_000_000)


def test_the_instants_of_two_rules_are_counted_apart() -> None:
    state, both = DeviceState(), rules(rule(), rule("battery", "<", 10))
    flapping = [reading(1, temperature=t, battery=b) for t, b in ((90, 5), (70, 50), (90, 50), (70, 5), (90, 50))]
    events = run(state, both, *flapping)
    assert len({(event.alert_id, event.status) for event in events}) == len(events) == 9
    assert state.instants == {"temperature": (COUNTED + 1_000_000, 2), "battery": (COUNTED + 1_000_000, 2)}


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([], ["temperature RESOLVED 90 rule_changed"]),
        ([rule("battery", "<", 1)], ["temperature RESOLVED 90 rule_changed"]),
        ([rule(devices=["other"])], ["temperature RESOLVED 90 rule_changed"]),
        ([rule(id="new")], ["temperature RESOLVED 90 rule_changed", "new FIRING 91"]),
        ([rule(threshold=85)], ["temperature RESOLVED 90 rule_changed", "temperature FIRING 91"]),
        ([rule(severity="critical")], ["temperature RESOLVED 90 rule_changed", "temperature FIRING 91"]),
        ([rule(threshold=95)], ["temperature RESOLVED 90 rule_changed"]),
        ([rule(message="other")], []),
        ([rule(threshold=80.0, devices=["d", "e"])], []),
        ([rule("battery", "<", 1), rule()], []),
    ],
)  # fmt: skip
def test_a_changed_rule_ends_its_episode_at_the_next_reading(
    after: list[dict[str, object]], expected: list[str]
) -> None:
    state = DeviceState()
    firing = run(state, HOT, reading(temperature=90))
    events = run(state, rules(*after), reading(1, temperature=91, battery=50))
    assert reported(events) == expected
    if events:
        assert events[0].alert_id == firing[0].alert_id
        assert (events[0].threshold, events[0].message, events[0].severity) == (80, "m", "warning")
    assert run(state, rules(*after), reading(2, temperature=91, battery=50)) == ()


def test_a_rule_edited_within_one_instant_fires_under_a_new_id() -> None:
    state = DeviceState()
    (first,) = run(state, HOT, reading(temperature=90))
    resolved, second = run(state, rules(rule(threshold=85)), reading(temperature=90))
    assert (resolved.alert_id, resolved.cause) == (first.alert_id, "rule_changed")
    assert second.alert_id != first.alert_id


def test_a_changed_rule_ends_its_episode_even_when_the_reading_lacks_the_key() -> None:
    state = DeviceState()
    run(state, HOT, reading(temperature=90))
    assert reported(run(state, rules(rule(threshold=70)), reading(1))) == ["temperature RESOLVED 90 rule_changed"]


def test_an_episode_that_never_fired_ends_in_silence() -> None:
    for given, value in ((HOT, 70), ((), 90)):
        state = DeviceState()
        run(state, HOT, reading(temperature=90))
        state.episodes["temperature"].fired = False
        assert run(state, given, reading(1, temperature=value)) == ()
        assert state.episodes == {}


def test_flags_tell_what_changed() -> None:
    state = DeviceState()

    def flags_after(one: Reading, offset: int) -> tuple[bool, bool]:
        evaluate(state, one, HOT, offset)
        seen = (state.dirty, state.episodes_changed)
        state.mark_persisted()
        assert not state.dirty
        return seen

    assert (state.dirty, state.episodes_changed) == (False, False)
    assert flags_after(reading(1, temperature=70), 0) == (True, False)
    assert flags_after(reading(1, temperature=70), 0) == (False, False)
    assert flags_after(reading(0, temperature=90), 1) == (True, False)  # late
    assert flags_after(reading(2, temperature=90), 2) == (True, True)
    assert flags_after(reading(3, temperature=91), 3) == (True, False)
    assert flags_after(reading(4, temperature=70), 4) == (True, True)
    fresh = decode(encode(state))
    assert (fresh.dirty, fresh.episodes_changed) == (False, False)


def test_what_an_open_episode_knows() -> None:
    state = DeviceState()
    run(state, HOT, *temperatures(81, 95))
    episode = state.episodes["temperature"]
    assert (episode.first_seen, episode.last_seen, episode.value) == (COUNTED, COUNTED + 1_000_000, 95)
    assert (episode.threshold, episode.severity, episode.message, episode.fired) == (80, "warning", "m", True)
    assert episode.fingerprint == HOT[0].fingerprint


def test_encoding_is_compact_and_exact() -> None:
    state = DeviceState()
    assert decode(encode(state)) == state
    assert state.latest_time is None
    evaluate(state, reading(0.000001, temperature=1), HOT, 2**40)
    assert msgspec.msgpack.decode(encode(state)) == [1, 2**40, COUNTED + 1]
    assert decode(encode(state)).latest == state.latest
    assert state.latest > START


def test_decoded_states_are_private_copies() -> None:
    state = DeviceState()
    run(state, HOT, reading(temperature=90))
    data = encode(state)
    one, other = decode(data), decode(data)
    run(one, HOT, reading(1, temperature=20))
    assert other.episodes.keys() == {"temperature"}
    assert decode(msgspec.msgpack.encode([1, 1])).episodes is not decode(msgspec.msgpack.encode([1, 1])).episodes


def test_states_of_older_and_newer_programs_decode() -> None:
    older = msgspec.msgpack.encode([1, 41])
    assert decode(older) == DeviceState(41, persisted_offset=41)
    episode = ["id", COUNTED, "fp", "warning", "m", 80, 81.5, COUNTED]
    more = [False, False, -1, 0, None]
    longer = [*episode, False, 3, 0, None, False, False, False, False, 0, *more, "of a later program"]
    assert len(longer) == len(msgspec.structs.fields(Episode)) + 1
    note = ["fp", 0, True, 0, [], 0, "of a later program"]
    newer = msgspec.msgpack.encode(
        [1, 41, COUNTED, {"t": longer}, {}, {"t": note}, None, None, None, None, {}, "of a later"]
    )
    state = decode(newer)
    assert state.notes["t"].disabled
    assert (state.applied_offset, state.latest_time) == (41, COUNTED)
    assert state.episodes["t"].value == 81.5
    assert state.episodes["t"].fired is False
    without_defaults = msgspec.msgpack.encode([1, 41, COUNTED, {"t": episode}])
    assert decode(without_defaults).episodes["t"].fired is True
    first_version = msgspec.msgpack.encode([1, 41, COUNTED, {"t": [*episode, True]}, {"t": [COUNTED, 2]}])
    assert decode(first_version).instants == {"t": (COUNTED, 2)}


def test_whether_an_alert_is_open_is_read_without_the_rest() -> None:
    state = DeviceState(samples=Samples(StoredChain(3), {"temperature,60s": RollingWindow()}))
    assert at_rest(encode(DeviceState()))
    assert at_rest(encode(state))
    run(state, HOT, reading(temperature=90))
    assert not at_rest(encode(state))
    assert not at_rest(b"\xff")  # for `decode` to complain of


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a device state"), (b"\xff", "not a device state"), (b"\x93\x01", "not a device state"),
        (msgspec.msgpack.encode({"a": 1}), "not a device state"),
        (msgspec.msgpack.encode([1, "x"]), "not a device state"),
        (msgspec.msgpack.encode([2, {"other": "shape"}]), "has version 2, this program reads 1"),
    ],
)  # fmt: skip
def test_what_is_no_state_is_named(data: bytes, words: str) -> None:
    with pytest.raises(PermanentError, match=words):
        decode(data)
