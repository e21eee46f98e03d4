"""`users/{user}/alerts/manage` -> a Command, and what it does to a device's state.

A command counts from the moment it entered Kafka, so that a replay says the same; readings meet it in offset order.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

import msgspec
from msgspec import Struct

from app.core.alerts.lifecycle import TRANSITIONS, Signal
from app.core.model.alert_phase import Phase
from app.core.model.fault import printable
from app.core.model.identity import ids_fault
from app.core.model.namespaces import IOT, USERS
from app.core.model.records import Reason, Record, Rejected, Stage
from app.core.routing.address import Address
from app.core.rules.rule import Rule
from app.core.state.device_state import DeviceState

MINUTES_MAX = 525_600  # a year; to be quiet for good there is DISABLE
_EXAMPLE = '{"device_id": "truck-1", "rule_id": "temperature", "action": "SNOOZE", "duration_minutes": 30}'


class CommandAction(StrEnum):
    """The actions of a command."""

    SNOOZE = "SNOOZE"  # quiet for duration_minutes
    DISABLE = "DISABLE"  # quiet until ENABLE, or until the rule changes its meaning
    ENABLE = "ENABLE"  # neither snoozed nor disabled any more
    ACK = "ACK"  # somebody has seen the open alert: it is not escalated


class Command(Struct, frozen=True, gc=False):
    """One command, checked as far as possible without the device's state."""

    user_id: str
    device_id: str
    rule_id: str
    action: CommandAction
    until: int = 0  # end of a snooze, microseconds since 1970
    way: str = ""  # of the device: `users` or `iot`; empty when the command does not say


class _Payload(Struct):
    device_id: str
    rule_id: str
    action: CommandAction
    duration_minutes: int | float | None = None
    user_id: str | None = None
    way: Literal["users", "iot"] | None = None
    node_id: str | None = None  # says `iot` too


_payload = msgspec.json.Decoder(_Payload).decode


def command(record: Record, address: Address, at: int) -> Command | Rejected:
    """Read a command that came in `at`, in ms since 1970. Never raises; unknown fields are left alone."""
    if not record.value:
        return _refuse(record, f"the command is empty; send {_EXAMPLE}")
    try:
        found = _payload(record.value)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return _refuse(record, f"{printable(str(error), 200)}; send {_EXAMPLE}")
    user = address.user_id or found.user_id or ""
    if not user or found.user_id not in (None, user):
        return _refuse(record, f"user_id is {printable(found.user_id)}; leave it to the topic users/{{user}}/...")
    fault = ids_fault(user, found.device_id)
    if fault is not None and fault.reason is Reason.BAD_ID:
        return Rejected(record, fault.reason, fault.stage, fault.detail)
    if not found.device_id or "/" in found.device_id or fault:
        return _refuse(record, f"device_id is {printable(found.device_id)}, which no device has")
    if found.node_id not in (None, user) or (found.node_id and found.way == USERS):
        return _refuse(
            record, f"node_id is {printable(found.node_id)}; that of iot/{{node}}/... is the user of the topic"
        )
    way = IOT if found.node_id else found.way or ""
    minutes = found.duration_minutes
    if found.action is not CommandAction.SNOOZE:
        return Command(user, found.device_id, found.rule_id, found.action, way=way)
    if minutes is None or not 0 < minutes <= MINUTES_MAX:
        return _refuse(
            record, f"SNOOZE needs duration_minutes, above 0 and up to {MINUTES_MAX}; here it is {printable(minutes)}"
        )
    until = at * 1000 + round(minutes * 60_000_000)
    return Command(user, found.device_id, found.rule_id, found.action, until, way)


def is_open(state: DeviceState, rule_id: str) -> bool:
    """Whether an alert of the rule was sent, and is not over."""
    episode = state.episodes.get(rule_id)
    return episode is not None and episode.fired


def apply_command(state: DeviceState, given: Command, rules: Sequence[Rule], offset: int) -> str | None:
    """Carry out a command on the state of its device, in place; or change nothing and return what is wrong.

    `offset` is that of the command's record; a command at or below the state's offset was obeyed before.
    """
    if offset <= state.applied_offset:
        return None
    rule = next((rule for rule in rules if rule.id == given.rule_id), None)
    if rule is None:
        known = ", ".join(rule.id for rule in rules)
        return f"rule_id is {printable(given.rule_id)}; the rules of this device are {printable(known, 200) or 'none'}"
    episode = state.episodes.get(rule.id)
    if episode is not None and (not episode.fired or episode.fingerprint != rule.fingerprint):
        episode = None
    if given.action is CommandAction.ACK and episode is None:
        return f"there is no open alert of {printable(rule.id)} to acknowledge"
    state.applied_offset = offset
    if episode is not None:
        state.touched[rule.id] = episode
        if given.action is CommandAction.ACK:
            episode.acked = True
        elif given.action is not CommandAction.ENABLE:
            after, _ = TRANSITIONS[episode.phase, Signal.MUTE]
            episode.muted = after is Phase.MUTED
    _remember(state, given, rule)
    return None


def _remember(state: DeviceState, given: Command, rule: Rule) -> None:
    note = state.note(rule.id, rule.fingerprint)
    match given.action:
        case CommandAction.SNOOZE:
            note.snoozed_until = given.until
        case CommandAction.DISABLE:
            note.disabled = True
        case CommandAction.ENABLE:
            note.disabled, note.snoozed_until = False, 0
        case CommandAction.ACK:
            pass


def _refuse(record: Record, detail: str) -> Rejected:
    return Rejected(record, Reason.INVALID_COMMAND, Stage.VALIDATE, detail)
