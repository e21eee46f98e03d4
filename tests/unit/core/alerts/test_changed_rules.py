"""Rules that a user changes again and again: the state of a device is bounded, whatever was said of earlier rules."""

import pytest

from app.core.alerts.commands import Command, CommandAction, apply_command
from app.core.alerts.evaluate import evaluate
from app.core.state.device_state import DeviceState, decode, encode
from tests.unit.readings import reading, rule, rules

CHANGES = 50


@pytest.mark.parametrize("action", [CommandAction.DISABLE, CommandAction.SNOOZE])
def test_commands_about_rules_that_are_gone_are_forgotten(action: CommandAction) -> None:
    state = DeviceState()
    for offset in range(CHANGES):
        compiled = rules(rule(id=f"r{offset}"), rule(id="kept"))
        assert apply_command(state, Command("u", "d", f"r{offset}", action, 2**60), compiled, 2 * offset) is None
        assert apply_command(state, Command("u", "d", "kept", action, 2**60), compiled, 2 * offset + 1) is None
        state = decode(encode(state))
    assert set(state.notes) == {f"r{CHANGES - 1}", "kept"}


def test_a_command_forgets_what_was_said_about_another_meaning_of_a_rule() -> None:
    state = DeviceState()
    before, after = (rules(rule(id="a", threshold=limit), rule(id="b")) for limit in (80, 90))
    assert apply_command(state, Command("u", "d", "a", CommandAction.DISABLE), before, 0) is None
    assert apply_command(state, Command("u", "d", "b", CommandAction.DISABLE), after, 1) is None
    assert set(state.notes) == {"b"}


def test_alerts_of_one_instant_are_forgotten_with_their_rules() -> None:
    state = DeviceState()
    for offset in range(CHANGES):
        compiled = rules(rule(id=f"r{offset}"))
        assert len(evaluate(state, reading(temperature=90), compiled, 2 * offset)) == 1
        assert len(evaluate(state, reading(temperature=20), compiled, 2 * offset + 1)) == 1
        state = decode(encode(state))
    assert set(state.instants) == {f"r{CHANGES - 1}"}


def test_alerts_of_one_instant_keep_ids_of_their_own() -> None:
    state, compiled, ids = DeviceState(), rules(rule(id="a")), list[str]()
    for offset in range(6):
        hot = offset % 2 == 0
        (event,) = evaluate(state, reading(temperature=90 if hot else 20), compiled, offset)
        ids += [event.alert_id] if hot else []
    assert len(set(ids)) == 3
