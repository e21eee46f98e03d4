"""Maintenance windows: what is one, whose they are, and what becomes of alerts in them."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from app.core.batch.effects import Statement
from app.core.model.times import micros
from app.core.rules.maintenance import WINDOWS_MAX, spans_of
from app.core.rules.rule import InvalidRules
from app.core.user_config.document import Config, parse_config
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.core.processing.test_processor import HOT, START, Subject, telemetry
from tests.unit.readings import rule

DAY = {"from": "2026-11-21T22:00:00Z", "until": "2026-11-22T04:00:00Z"}


def read(*windows: object, **more: object) -> Config | InvalidRules:
    return parse_config(msgspec.json.encode({"maintenance": windows, **more}), "u", DEFAULT)


def test_windows_with_globs_and_zones() -> None:
    found = read(DAY, {"from": "2026-11-21T23:00:00+01:00", "until": "2026-11-21T22:00:00.5Z", "devices": ["a*", "b"]})
    assert isinstance(found, Config)
    assert found.rules is None
    assert found.windows
    begin = micros(msgspec.convert(DAY["from"], type(START)))
    whole, short = (begin, begin + 6 * 3600 * 1_000_000), (begin, begin + 500_000)
    assert spans_of(found.windows, "a1") == (whole, short)
    assert spans_of(found.windows, "b1") == (whole,)


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ({}, "maintenance: {} is not a list"), ([{}] * (WINDOWS_MAX + 1), "is not a list of at most 100 windows"),
        ([5], "maintenance[0]: 5 is not an object"), ([{"until": DAY["until"]}], "[0].from: null is not a time"),
        ([{**DAY, "from": 1795226400}], "[0].from: 1795226400 is not a time with its zone"),
        ([{**DAY, "from": "2026-11-21T22:00:00"}], "is not a time with its zone"),
        ([DAY, {**DAY, "until": DAY["from"]}], '[1].until: "2026-11-21T22:00:00Z" is not after from'),
        ([{**DAY, "devices": []}], "[0].devices: [] is not a list"),
        ([{**DAY, "devices": ["a\0"]}], "[0].devices: [0]: "), ([{**DAY, "note": 5}], "[0].note: 5 is not a text"),
        ([{**DAY, "every": "week"}], "[0].every: unknown field; known are from, until, devices, note"),
    ],
)  # fmt: skip
def test_what_is_no_window(windows: Any, words: str) -> None:
    found = parse_config(msgspec.json.encode({"maintenance": windows, "rules": [rule()]}), "u", DEFAULT)
    assert isinstance(found, InvalidRules)
    assert words in found.reasons[0]


def test_all_mistakes_of_a_document_are_named() -> None:
    found = read(5, rules=[{"key": "x"}])
    assert isinstance(found, InvalidRules)
    assert [reason.partition("]")[0] for reason in found.reasons] == ["rules[0", "rules[0", "rules[0", "maintenance[0"]


def test_a_refused_document_leaves_windows_and_rules() -> None:
    book, rules = RuleBook(DEFAULT), [rule()]
    good = msgspec.json.encode({"rules": rules, "maintenance": [{**DAY, "devices": ["a"]}]}).decode()
    assert book.apply([("u", good)]) == []
    before = book.watch_for("u", "a")
    assert len(before.maintenance) == 1
    assert book.watch_for("u", "b").maintenance == ()
    bad = msgspec.json.encode({"rules": rules, "maintenance": [5]}).decode()
    assert len(book.apply([("u", bad)])) == 1
    assert book.watch_for("u", "a") is before
    assert book.apply([("u", msgspec.json.encode(rules).decode())]) == []
    assert book.watch_for("u", "a").maintenance == ()


def test_what_happens_in_a_window_is_recorded_and_not_sent() -> None:
    subject = Subject(HOT)
    window = {"from": START.isoformat(), "until": (START + timedelta(seconds=3)).isoformat(), "devices": ["d"]}
    document = msgspec.json.encode({"rules": [HOT], "maintenance": [window]}).decode()
    assert subject.book.apply([("u", document)]) == []
    work = subject(telemetry(0, temperature=90), telemetry(1, "e", temperature=90))
    assert [event.device_id for event in work.events] == ["e"]
    assert (len(work.alerts), work.suppressed) == (1, 1)
    history = [effect.args for effect in work.alert_effects if effect.statement is Statement.INSERT_HISTORY]
    assert ['"suppressed":true' in args[12] for args in history] == [True, False]
    rows = [effect.args for effect in work.alert_effects if effect.statement is Statement.UPSERT_ACTIVE_ALERT]
    assert [(args[1], args[10]) for args in rows] == [("d", "SUPPRESSED"), ("e", "FIRING")]
    later = subject(telemetry(2, temperature=91), telemetry(3, temperature=92))
    assert [(event.cause, event.repeat, event.alert_id) for event in later.events] == [
        ("maintenance_ended", 1, history[0][0])
    ]


def test_stored_text_may_be_longer_than_what_was_taken() -> None:
    """jsonb writes a space behind each comma and colon."""
    rules = [rule("k", id=f"{n}", message="m" * 1000, devices=["x" * 30] * 6) for n in range(200)]
    compact = msgspec.json.encode(rules)
    assert isinstance(parse_config(compact, "u", DEFAULT), Config)
    padded = compact + b" " * (1 << 18)
    assert isinstance(parse_config(padded, "u", DEFAULT), InvalidRules)
    assert RuleBook(DEFAULT).apply([("u", padded.decode())]) == []
