"""Expected alert events: what a file of them may say, the diff with what came, and the coverage of the rules."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backtest import difference as compared
from app.backtest.coverage import Coverage
from app.backtest.difference import difference
from app.backtest.dry_run import DryRun
from app.backtest.expected import ExpectedEvent, expected
from app.core.model.alert_event import AlertEvent, Severity, Status, to_json
from app.errors import PermanentError
from tests import DEFAULT
from tests.unit.readings import START, reading, rule, ruleset


def event(name: str, value: float = 1.0, second: int = 0) -> AlertEvent:
    time = START + timedelta(seconds=second)
    return AlertEvent("id", "u", "d", name, Status.FIRING, Severity.WARNING, "m", value, 0, time, time)


def entry(name: str | None = None, value: float | None = None) -> ExpectedEvent:
    wanted: dict[str, Any] = {"rule_id": name, "value": value}
    return ExpectedEvent(1, {field: one for field, one in wanted.items() if one is not None})


def read(document: object, rule_ids: tuple[str, ...] = ("a", "b")) -> tuple[ExpectedEvent, ...]:
    return expected("e.json", json.dumps(document, indent=0).encode(), rule_ids)


FIRING = {"rule_id": "a", "status": "FIRING"}


@pytest.mark.parametrize(
    ("more", "met"),
    [
        ({}, True), ({"value": 1}, True), ({"value": True}, False), ({"value": 2}, False), ({"cause": None}, True),
        ({"cause": "unmuted"}, False), ({"repeat": None}, True), ({"message": None}, False),
        ({"event_time": "2025-01-01T01:00:00+01:00"}, True), ({"event_time": "2025-01-01T00:00:01Z"}, False),
        ({"status": "RESOLVED"}, False), ({"severity": "warning"}, True), ({"device_id": "e"}, False),
    ],
)  # fmt: skip
def test_an_entry_says_as_much_of_an_event_as_it_cares_for(more: dict[str, Any], met: bool) -> None:
    (one,) = read([{**FIRING, **more}])
    assert one.is_met_by(event("a")) is met


def test_what_the_command_prints_is_such_a_file() -> None:
    printed = {"readings": 1, "events": [json.loads(to_json(event("a")))]}
    (one,) = read(printed)
    assert one.is_met_by(event("a"))
    assert not one.is_met_by(event("a", second=1))


def test_entries_are_in_the_order_of_their_time_if_all_have_one() -> None:
    late, early = ({**FIRING, "event_time": f"2025-01-01T00:00:0{n}Z"} for n in (2, 1))
    assert [one.fields["event_time"].second for one in read([late, early])] == [1, 2]
    assert [len(one.fields) for one in read([late, FIRING, early])] == [3, 2, 3]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "e.json:1: give a JSON array"), ("FIRING", "e.json:1: give a JSON array"),
        ([FIRING, 7], "e.json:6: [1]: not an object; an event is for example"),
        ([{**FIRING, "devise_id": "x"}], ".devise_id: unknown field; did you mean device_id?"),
        ([{"status": "FIRING"}], ".rule_id: missing"), ([{"rule_id": "a"}], ".status: missing"),
        ([{**FIRING, "status": "FIRED"}], 'e.json:4: [0].status: "FIRED" is not one of FIRING, RESOLVED'),
        ([{**FIRING, "event_time": "noon"}], ".event_time: \"noon\" is no time such as 2026-11-21T09:01:00Z"),
        ([{**FIRING, "event_time": "2025-01-01T00:00:00"}], " is no time such as"),
        ([{**FIRING, "rule_id": "c"}], '.rule_id: "c" is none of the rules; known are a, b'),
        ([{**FIRING, "rule_id": ["a"]}], '.rule_id: ["a"] is none of the rules'),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_line(document: object, words: str) -> None:
    with pytest.raises(PermanentError) as refused:
        read(document)
    assert words in str(refused.value)


@pytest.mark.parametrize("text", [b"[{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(PermanentError, match=r"e\.json:1: not JSON"):
        expected("e.json", text, ())


entries = st.lists(st.builds(entry, st.sampled_from([None, "a", "b"]), st.sampled_from([None, 1.0, 2.0])), max_size=6)
events = st.lists(st.builds(event, st.sampled_from(["a", "b"]), st.sampled_from([1.0, 2.0])), max_size=6)


def most_pairs(wanted: list[ExpectedEvent], found: list[AlertEvent]) -> int:
    """By trying everything."""
    if not wanted or not found:
        return 0
    best = max(most_pairs(wanted[1:], found), most_pairs(wanted, found[1:]))
    return max(best, 1 + most_pairs(wanted[1:], found[1:])) if wanted[0].is_met_by(found[0]) else best


@given(entries, events)
def test_a_difference_has_everything_once_and_as_many_pairs_as_there_can_be(
    wanted: list[ExpectedEvent], found: list[AlertEvent]
) -> None:
    lines = difference(wanted, found)
    assert [one for _, one, _ in lines if one is not None] == wanted
    assert [one for _, _, one in lines if one is not None] == found
    for sign, one, came in lines:
        assert sign == ("+" if one is None else "-" if came is None else " ")
        assert one is None or came is None or one.is_met_by(came)
    assert sum(sign == " " for sign, *_ in lines) == most_pairs(wanted, found)


def test_what_is_too_long_to_compare_differs_between_its_equal_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compared, "COMPARED_MAX", 3)
    found = [event(name) for name in "abab"]
    wanted = [entry(name) for name in "aabb"]
    signs = "".join(sign for sign, *_ in difference(wanted, found))
    assert signs == " --++ "


def test_coverage_says_how_far_each_rule_came_and_why_it_never_fired() -> None:
    made = ruleset(
        rule(id="fires"), rule(id="waits", for_seconds=60), rule(id="low", threshold=99), rule(id="other", key="door"),
        rule(id="elsewhere", devices=["x"]), rule("avg(temperature,60s)", id="window", threshold=84),
    )  # fmt: skip
    coverage = Coverage(made)
    dry_run = DryRun(made, DEFAULT, coverage)
    for second, temperature in ((0, 80.0), (1, 90.0), (-5, 99.5), (2, 70.0)):
        dry_run.take(reading(second, temperature=temperature))
    figures = {one.rule_id: (one.devices, one.readings, one.held, one.fired, one.resolved) for one in coverage.rules}
    assert figures == {
        "fires": (1, 3, 1, 1, 1), "waits": (1, 3, 1, 0, 0), "low": (1, 3, 0, 0, 0), "other": (1, 0, 0, 0, 0),
        "elsewhere": (0, 0, 0, 0, 0), "window": (1, 3, 2, 1, 0),
    }  # fmt: skip
    assert [one.missing for one in coverage.rules] == [
        "",
        "its condition held in 1 of 3 readings, which was never enough to fire",
        "its condition never held in 3 readings",
        "no reading says anything about its condition",
        "no device of the readings is in its devices",
        "",
    ]
    assert coverage.fired == 2
