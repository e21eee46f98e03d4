"""Placeholders in the messages of rules: what is filled in and what stays, and which events have which text."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from app.core.alerts.commands import Command, CommandAction, apply_command
from app.core.alerts.evaluate import evaluate
from app.core.alerts.staleness import mark_stale
from app.core.model.alert_event import AlertEvent
from app.core.model.inactivity_claim import InactivityClaim
from app.core.model.times import micros
from app.core.rules.messages import FACTS, AlertFacts, fill_of
from app.core.rules.parse import parse
from app.core.rules.rule import InvalidRules, RuleSet
from app.core.rules.rule_checks import MESSAGE_MAX
from app.core.state.device_state import DeviceState, decode, encode
from tests import DEFAULT
from tests.unit.readings import START, reading, rule, rules
from tests.unit.records import Message

ONE = AlertFacts(84.5, 80, "d", "u", "r", "warning", "2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z")


def filled(message: str, value: Any = 84.5, **fields: Any) -> str:
    fill = fill_of(message, DEFAULT)
    facts = msgspec.structs.replace(ONE, value=value)
    return message if fill is None else fill(reading(**fields), facts)


@pytest.mark.parametrize(
    ("message", "fields", "text"),
    [
        ("{device_id} of {user_id}: {value} > {threshold}", {}, "d of u: 84.5 > 80"),
        ("{rule_id}, {severity}, at {time} since {first_seen}", {},
         "r, warning, at 2025-01-01T00:00:00Z since 2025-01-01T00:00:00Z"),
        ("{value:.0f} {value:.2} {threshold:.1f} {device_id:.1}", {}, "84 84.50 80.0 d"),
        ("{temperature} at {battery} %", {"temperature": 90.0, "battery": 7}, "90 at 7 %"),
        ("{engine.oil.temp} {door} {on}", {"engine": {"oil": {"temp": 1e300}}, "door": "open", "on": True},
         "1e+300 open true"),
        ("{a.b}{a b}", {"a.b": 1, "a b": "é"}, "1é"),
        ("{temperature} {battery} {door} {engine.oil}", {"door": None, "engine": 3},
         "{temperature} {battery} {door} {engine.oil}"),
        ("{list} {object}", {"list": [1], "object": {"a": 1}}, "{list} {object}"),
        ("{} {{value}} {a:b} {value:.12} {value:x} { {value", {}, "{} {84.5} {a:b} {value:.12} {value:x} { {value"),
        ('{"key"} {a..b} {timestamp} {sequence_id}', {"timestamp": 3}, '{"key"} {a..b} {timestamp} {sequence_id}'),
        ("{door}", {"door": "a\nb\x1b[31m"}, "a\\nb\\x1b[31m"),
        ("{n}", {"n": Raw(b"1e999")}, "{n}"),
        ("{n}", {"n": Raw(b"123456789012345678901234567890")}, "1.2345678901234568e+29"),
        ("{avg(temperature,60s):.1f}", {"avg(temperature,60s)": 80.04}, "80.0"),
    ],
)  # fmt: skip
def test_what_is_filled_in_and_what_stays(message: str, fields: dict[str, Any], text: str) -> None:
    assert filled(message, **fields) == text


@pytest.mark.parametrize("message", ["", "too hot", "{}", "{a:b}", "50 % {", "{a..b}"])
def test_a_message_without_placeholders_costs_nothing(message: str) -> None:
    assert fill_of(message, DEFAULT) is None
    (made,) = rules({**rule(), "message": message})
    assert made.fill is None


def test_no_text_of_a_payload_makes_a_message_longer_than_a_rule_may_have() -> None:
    text = filled("{a}" * 333, a="x" * 100_000)
    assert (len(text), text[-1]) == (MESSAGE_MAX, "…")


def test_placeholders_of_all_rules_together_are_bounded() -> None:
    def parsed(count: int) -> RuleSet | InvalidRules:
        several = [{**rule(), "id": f"r{n}", "message": "{a}" * 250} for n in range(4)]
        return parse(msgspec.json.encode([*several, {**rule(), "id": "r", "message": "{a}" * count}]), "u", DEFAULT)

    assert isinstance(parsed(0), RuleSet)
    refused = parsed(1)
    assert isinstance(refused, InvalidRules)
    assert refused.reasons == ("rules: 1001 placeholders in all messages together; at most 1000 are allowed",)


names = st.sampled_from([*FACTS, "temperature", "a", "a.b", "a..b", "avg(a,60s)", ""])
pieces = st.one_of(st.text(max_size=5), st.builds("{{{}{}}}".format, names, st.sampled_from(["", ":.1", ":.2f", ":x"])))
raw = st.sampled_from([b"1", b"-0.0", b"1e999", b'"\\ud800"', b"\xff", b"[[", b"{}", b'{"b":1}', b"true", b"null"])


@given(st.lists(pieces, max_size=6).map("".join), raw, st.sampled_from([0, 1.5, True, "x", -(2**63), 1e308]))
def test_nothing_that_comes_raises(message: str, field: bytes, value: Any) -> None:
    fill = fill_of(message, DEFAULT)
    if fill is None:
        return
    text = fill(DEFAULT.reading(START, "u", "d", 1, {"a": Raw(field)}, "", 3.0, None), ONE)
    assert len(text) <= MESSAGE_MAX
    assert fill(reading(temperature=1.0), msgspec.structs.replace(ONE, value=value)) is not None


def test_what_is_sent_bears_its_own_value_and_what_follows_the_last_text() -> None:
    """FIRING, REMINDER and FIRING again are filled in; STALE and RESOLVED say what was said last; restarts keep it."""
    compiled = rules({**rule(id="r", escalate={"after_seconds": 5, "severity": "critical"}, no_data_seconds=60),
                      "message": "{device_id} has {value} > {threshold}, {severity}, door {door}"})  # fmt: skip
    state, said = DeviceState(), list[str]()

    def step(offset: int, second: int, temperature: float, door: str) -> None:
        nonlocal state
        _note(said, evaluate(state, reading(second, temperature=temperature, door=door), compiled, offset))
        state = decode(encode(state))

    step(0, 0, 81, "shut")
    step(1, 1, 83, "open")
    step(2, 6, 84.5, "open")
    claim = InactivityClaim("no_data", "u", "d", up_to=3, rule_ids=("r",))
    record = Message(timestamp=round((START.timestamp() + 100) * 1000), offset=3)
    _note(said, mark_stale(state, claim, compiled, record, record.timestamp))
    step(4, 101, 85, "shut")
    assert apply_command(state, Command("u", "d", "r", CommandAction.DISABLE), compiled, 5) is None
    assert apply_command(state, Command("u", "d", "r", CommandAction.ENABLE), compiled, 6) is None
    step(7, 102, 86, "shut")
    step(8, 103, 20, "shut")
    assert said == [
        "FIRING d has 81 > 80, warning, door shut",
        "REMINDER d has 84.5 > 80, critical, door open",
        "STALE d has 84.5 > 80, critical, door open",
        "FIRING d has 85 > 80, critical, door shut",
        "FIRING d has 86 > 80, critical, door shut",
        "RESOLVED d has 86 > 80, critical, door shut",
    ]


def test_an_alert_of_a_rule_that_is_gone_resolves_with_its_text() -> None:
    state = DeviceState()
    compiled = rules({**rule(), "message": "has {value}"})
    evaluate(state, reading(0, temperature=90), compiled, 0)
    (event,) = evaluate(state, reading(1, temperature=91), (), 1)
    assert (event.message, micros(event.event_time)) == ("has 90", micros(START) + 1_000_000)


def test_an_alert_from_before_placeholders_keeps_its_message_until_it_is_sent_again() -> None:
    """An edit of the message keeps the alert open, as any edit of a message does."""
    state = DeviceState()
    evaluate(state, reading(0, temperature=90), rules(rule()), 0)
    templated = rules({**rule(), "message": "has {value}"})
    assert rules(rule())[0].fingerprint == templated[0].fingerprint
    (event,) = evaluate(state, reading(1, temperature=20), templated, 1)
    assert (event.status, event.message) == ("RESOLVED", "m")


def _note(said: list[str], events: tuple[AlertEvent, ...]) -> None:
    said += [f"{event.status} {event.message}" for event in events]
