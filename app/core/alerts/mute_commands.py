"""What SNOOZE, DISABLE and ENABLE do to the database: the mutes of a user, and what is muted on a device."""

from collections.abc import Iterable

import msgspec

from app.core.alerts.commands import Command, CommandAction
from app.core.batch.effects import Effect, Statement
from app.core.model.arrival import moment_of
from app.core.model.fault import printable
from app.core.model.times import moment
from app.core.rules.mutes import ALL, PRESENCE, StoredMute
from app.core.rules.rule import Rule
from app.core.state.device_state import DeviceState
from app.core.state.rule_memory import NOTHING

NO_MUTE = "the worker knows of no mute of this device and rule"


def unknown_rule(given: Command, rules: Iterable[Rule]) -> str | None:
    """What is wrong with a broad command for one rule, if the user's `rules` have none of that id."""
    ids = [rule.id for rule in rules]
    if given.rule_id == ALL or given.rule_id in PRESENCE or given.rule_id in ids:
        return None
    known = printable(", ".join(ids), 200) if ids else "none"
    return f"rule_id is {printable(given.rule_id)}; the rules of this user are {known}"


def idle_note(given: Command, state: DeviceState) -> str:
    """What the sender of a command for one rule on one device should know before it is carried out, or nothing."""
    note = state.notes.get(given.rule_id, NOTHING)
    return NO_MUTE if given.action is CommandAction.ENABLE and not note.mutes(given.at * 1000) else ""


def mute_effect(given: Command) -> Effect:
    """The change of the user's mutes that a broad command asks for."""
    key, since = (given.user_id, given.rule_id, given.device_id), moment_of(given.at)
    if given.action is CommandAction.ENABLE:
        return Effect(Statement.DELETE_MUTE, (*key, since))
    until = moment(given.until) if given.until else None
    mute = StoredMute(given.rule_id, given.device_id, since, until, given.by, given.comment)
    return Effect(Statement.UPSERT_MUTE, (*key, msgspec.json.encode(mute).decode(), since))


def muted_effect(given: Command, way: str) -> Effect | None:
    """The row of a command for one rule on one device of this way; None for ACK, which mutes nothing."""
    key = (given.user_id, given.device_id, given.rule_id)
    if given.action is CommandAction.ACK:
        return None
    if given.action is CommandAction.ENABLE:
        return Effect(Statement.DELETE_MUTED_ALERT, (*key, way))
    until = moment(given.until) if given.until else None
    return Effect(Statement.UPSERT_MUTED_ALERT, (*key, moment_of(given.at), until, given.by, given.comment, way))
