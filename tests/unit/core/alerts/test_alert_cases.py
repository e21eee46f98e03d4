"""Golden timelines: what each field of a rule and each command makes of a device's readings (timelines.json).

A line is [second, what, sent...]: `what` is a temperature, an object of fields, a command or SILENCE; `sent`, words of
the event. `maintenance` has spans of seconds.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from app.core.alerts.commands import Command, CommandAction, apply_command
from app.core.alerts.evaluate import evaluate
from app.core.alerts.staleness import mark_stale
from app.core.model.alert_event import AlertEvent
from app.core.model.inactivity_claim import InactivityClaim
from app.core.model.times import micros
from app.core.rules.rule_checks import checks_of_rule
from app.core.state.device_state import DeviceState, decode, encode
from tests import DEFAULT
from tests.unit.readings import START, reading, rule, rules
from tests.unit.records import Message

CASES = json.loads((Path(__file__).parent / "timelines.json").read_text())
PLAIN = rule(id="r")


def rule_of(case: dict[str, Any]) -> dict[str, Any]:
    several = case["rule"].keys() & {"all", "any"}
    return {"id": "r", "message": "m", **case["rule"]} if several else {**PLAIN, **case["rule"]}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_timeline(case: dict[str, Any]) -> None:
    compiled, state = rules(rule_of(case)), DeviceState()
    begin = micros(START)
    spans = tuple((begin + first * 1_000_000, begin + last * 1_000_000) for first, last in case.get("maintenance", ()))
    for offset, (second, what, *reported) in enumerate(case["timeline"]):
        if what == "SILENCE":
            claim = InactivityClaim("no_data", "u", "d", up_to=offset, rule_ids=("r",))
            record = Message(timestamp=round((START.timestamp() + second) * 1000), offset=offset)
            _reported(second, mark_stale(state, claim, compiled, record, record.timestamp, spans), reported)
            continue
        if isinstance(what, str):
            action, _, rest = what.partition(" ")
            until = micros(START) + round((second + float(rest) * 60) * 1e6) if action == "SNOOZE" else 0
            wrong = apply_command(state, Command("u", "d", "r", CommandAction(action), until), compiled, offset)
            assert (wrong is not None) is (rest == "refused"), f"{second}: {what}: {wrong}"
            continue
        fields = what if isinstance(what, dict) else {"temperature": what}
        events = evaluate(state, reading(second, **fields), compiled, offset, None, spans)
        _reported(second, events, reported)
        state = decode(encode(state))


def _reported(second: float, events: tuple[AlertEvent, ...], reported: list[str]) -> None:
    assert len(events) == len(reported), f"at second {second}: {events}"
    for event, words in zip(events, reported, strict=True):
        age = "" if event.age_seconds is UNSET else f"age={event.age_seconds:.0f}"
        said = {str(event.status), event.severity, event.cause or "", str(event.repeat or 0), age}
        said |= {"suppressed"} if event.suppressed is True else set()
        assert set(words.split()) <= said, f"at second {second}: {event}"
        assert words.split()[0] == event.status
        again = {"unmuted", "escalated", "data_again", "maintenance_ended", "STALE"} & set(words.split())
        assert bool(again) is bool(event.repeat)
        assert ("suppressed" in words) is (event.suppressed is True)


def test_every_field_and_command_has_a_timeline() -> None:
    text = json.dumps(CASES)
    about_the_rule = {"message", "devices", "severity", "id", "enabled"}
    assert [
        field for field in checks_of_rule(DEFAULT).keys() - about_the_rule - PLAIN.keys() if f'"{field}"' not in text
    ] == []
    assert [action for action in CommandAction if f'"{action}' not in text] == []


def test_a_device_at_rest_is_as_small_as_one_that_never_alerted() -> None:
    compiled, state = rules(rule(cooldown_seconds=10, flap={"times": 2, "within_seconds": 30})), DeviceState()
    sizes = []
    for offset, (second, value) in enumerate([(0, 20), (1, 90), (2, 20), (20, 20), (31, 20)]):
        evaluate(state, reading(second, temperature=value), compiled, offset)
        sizes.append(len(encode(state)))
    assert sizes[0] == sizes[4] == len(encode(DeviceState(0, state.latest))) < sizes[2]
