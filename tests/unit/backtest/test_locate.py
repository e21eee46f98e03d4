"""Each mistake of a rule set is named with the line it is in."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.backtest.locate import lines_of
from app.backtest.rules_file import read
from app.core.rules.rule import RuleSet
from tests import DEFAULT

BAD = """\
{"name": "fleet", "rules": [
  {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"},
  {"key": "battery", "operator": "<>",
   "threshold": "low",
   "mesage": "x"},
  {"id": "r", "all": [{"key": "a", "operator": "<", "threshold": 1},
    {"key": "b", "operator": "<"}],
   "message": "m", "escalate": {"after_seconds": 0,
     "severity": "info"}, "devices": ["a",
     5]},
  7
]}
"""


def mistakes(text: str) -> list[tuple[int, str]]:
    found = read(text.encode(), "u", DEFAULT)
    assert isinstance(found, tuple)
    return [(one.line, one.what.partition(": ")[0]) for one in found]


def test_every_mistake_has_its_line() -> None:
    assert mistakes(BAD) == [
        (3, "rules[1].message"),
        (3, "rules[1].operator"),
        (4, "rules[1].threshold"),
        (5, "rules[1].mesage"),
        (7, "rules[2].all"),
        (8, "rules[2].escalate"),
        (9, "rules[2].escalate"),
        (10, "rules[2].devices"),
        (11, "rules[3]"),
    ]


def test_names_given_twice_are_at_the_second_one() -> None:
    rule = {"key": "a", "operator": ">", "threshold": 1, "message": "m"}
    assert mistakes(json.dumps([rule, rule], indent=1)) == [(8, "rules[1].id")]


def test_what_is_no_json_has_the_line_where_it_breaks() -> None:
    assert mistakes('[\n{"key":\n,\n1}]') == [(3, "rules")]
    assert mistakes('[\n{"key": "a"},\n') == [(2, "rules")]  # cut off: the last line
    assert mistakes("") == [(1, "rules")]


def test_what_is_no_rule_set() -> None:
    assert mistakes('\n\n{"alerts": []}') == [(1, "rules")]
    assert mistakes('\n{"x": 1,\n"rules": 5}') == [(3, "rules")]
    found = read(b'[\n"\xff"]', "u", DEFAULT)
    assert isinstance(found, tuple)
    assert "not JSON" in found[0].what


def test_maintenance_windows_are_checked_too() -> None:
    window = '{"from": "2026-11-21T22:00:00Z",\n"until": "soon"}'
    assert mistakes(f'{{"rules": [],\n"maintenance": [\n{window}]}}') == [(4, "maintenance[0].until")]
    assert mistakes('{"maintenance": []}') == [(1, "rules")]


def test_a_good_set_is_compiled() -> None:
    found = read(b'[{"key": "a", "operator": ">", "threshold": 1, "message": "m"}]', "u", DEFAULT)
    assert isinstance(found, RuleSet)
    assert [rule.id for rule in found.rules] == ["a"]


def test_nesting_beyond_any_stack_is_a_mistake_and_no_crash() -> None:
    assert mistakes("[" * 100_000)[0][1] == "rules"
    assert mistakes('[{"threshold": ' + "[" * 400 + "]" * 400 + "}]")[0][0] == 1


values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.integers(), max_size=3))
documents = st.lists(st.dictionaries(st.text(min_size=1), values, max_size=4), max_size=4)


@given(documents, st.sampled_from([None, 0, 3]), st.booleans())
def test_the_line_of_a_field_is_the_one_that_names_it(rules: list[Any], indent: int | None, wrapped: bool) -> None:
    text = json.dumps({"rules": rules} if wrapped else rules, indent=indent)
    lines, found = text.split("\n"), lines_of(text)
    for index, rule in enumerate(rules):
        assert found[f"rules[{index}]"] <= min((found[f"rules[{index}].{name}"] for name in rule), default=10**9)
        for name in rule:
            assert f"{json.dumps(name)}:" in lines[found[f"rules[{index}].{name}"] - 1]
