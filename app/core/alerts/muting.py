"""The mutes of a user, carried into the state of a device: what is muted now, and its open alerts."""

import msgspec

from app.core.alerts.lifecycle import TRANSITIONS, Signal
from app.core.model.alert_phase import Phase
from app.core.rules.mutes import Mute, muted_until
from app.core.rules.rule import Rule
from app.core.state.device_state import DeviceState
from app.core.state.episode import Episode
from app.core.state.rule_memory import NOTHING, RuleMemory


def hold_muted(state: DeviceState, rules: tuple[Rule, ...], mutes: tuple[Mute, ...], now: int) -> None:
    """Note for each rule until when `mutes` hold at `now`, a time of arrival in microseconds since 1970, in place."""
    state.held = None
    for rule in rules:
        if until := muted_until(mutes, rule.id, now):
            hold_rule(state, rule, until)


def hold_rule(state: DeviceState, rule: Rule, until: int) -> None:
    """Note that the user has muted this rule until then, in place; an open alert of it is muted."""
    state.held = {**(state.held or {}), rule.id: until}
    episode = state.episodes.get(rule.id)
    if episode is not None and episode.fired and episode.fingerprint == rule.fingerprint:
        mute_episode(episode)
        state.touched[rule.id] = episode


def held_note(state: DeviceState, rule_id: str) -> RuleMemory:
    """What the device remembers of a rule, as if the user's mutes of now were a snooze of the rule on this device."""
    note, until = state.notes.get(rule_id, NOTHING), (state.held or {}).get(rule_id, 0)
    return msgspec.structs.replace(note, snoozed_until=until) if until > note.snoozed_until else note


def mute_episode(episode: Episode) -> None:
    """An alert that was sent is muted, in place; a suppressed one stays suppressed."""
    after, _ = TRANSITIONS[episode.phase, Signal.MUTE]
    episode.muted = after is Phase.MUTED
