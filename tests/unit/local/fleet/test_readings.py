"""Simulated readings: valid but for the readings broken on purpose, and crossing every rule of the simulated users."""

import json
from typing import Any

import pytest

from app.local.fleet.readings import BAD_EVERY, BROKEN, RULES, payload, reading


def value(message: dict[str, Any], key: str) -> float:
    for part in key.split("."):
        message = message[part]
    return float(message)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["key"]))
def test_each_rule_is_crossed_and_left_within_ten_minutes(rule: dict[str, Any]) -> None:
    values = [value(reading(n, 1, 1e9 + t), rule["key"]) for n in range(20) for t in range(0, 600, 5)]
    above = [v for v in values if v > rule["threshold"]]
    below = [v for v in values if v < rule["threshold"]]
    assert len(above) > 10
    assert len(below) > 10


def test_one_in_so_many_is_broken_and_the_rest_is_json() -> None:
    messages = [payload(3, sequence, 1e9) for sequence in range(1, 4 * BAD_EVERY + 1)]
    broken = [message for message in messages if message in BROKEN]
    assert len(broken) == 4
    assert set(broken) == set(BROKEN), "every way of being broken has its turn"
    good = [json.loads(message) for message in messages if message not in BROKEN]
    assert all(
        set(message) == {"sequence_id", "timestamp", "temperature", "battery", "engine", "firmware"} for message in good
    )
