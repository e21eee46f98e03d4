"""The rules in force as JSON are those that a worker has compiled."""

import json
from typing import Any

from hypothesis import given

from app.backtest import rules_file
from tests.unit.core.user_config.test_fleet import book, some_rules


@given(some_rules, some_rules)
def test_they_are_those_of_a_worker(own: list[dict[str, Any]], fleet: list[dict[str, Any]]) -> None:
    shown = rules_file.in_force(json.dumps(own), json.dumps(fleet))
    compiled = book(**{"fleet": fleet, "u": own}).in_force("u").rules
    assert [one["id"] for one in shown] == [one.id for one in (compiled.rules if compiled else ())]
    assert all(one in own or one in fleet for one in shown)


def test_a_rule_without_an_id_has_that_of_its_key() -> None:
    own, fleet = [{"key": "a", "threshold": 1}], [{"id": "a", "key": "b"}, {"key": "c"}]
    assert rules_file.in_force(json.dumps(own), json.dumps(fleet)) == [own[0], {"key": "c"}]
