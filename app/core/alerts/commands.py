"""`users/{user}/alerts/manage` -> a Command, and what it does to a device's state.

A command counts from the moment it entered Kafka, so that a replay says the same; readings meet it in offset order.
A command for more than one rule on one device is a mute of the user (app.core.alerts.mute_commands).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from app.core.alerts.muting import mute_episode
from app.core.model.alert_event import MASS_RULE_ID
from app.core.model.fault import printable
from app.core.model.identity import ids_fault
from app.core.model.namespaces import FLEET, IOT, USERS
from app.core.model.records import Reason, Record, Rejected, Stage
from app.core.routing.address import Address
from app.core.rules.mutes import ALL, PRESENCE
from app.core.rules.rule import Rule
from app.core.state.device_state import DeviceState

MINUTES_MAX = 525_600  # a year; to be quiet for good there is DISABLE
NAME_MAX, COMMENT_MAX = 200, 1000  # characters
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
    at: int = 0  # when it came in, ms since 1970
    by: str = ""  # who gives it; of ACK, who sees to the alert
    comment: str = ""
    request_id: str = ""  # of a sender who wants an answer also to a command that is obeyed

    @property
    def broad(self) -> bool:
        """Whether it is for more than one rule on one device, or for presence: no state of a device says that."""
        return ALL in (self.device_id, self.rule_id) or self.rule_id in PRESENCE


_Name = Annotated[str, Meta(max_length=NAME_MAX)]


class _Payload(Struct):
    device_id: str
    rule_id: str
    action: CommandAction
    duration_minutes: int | float | None = None
    user_id: str | None = None
    way: Literal["users", "iot"] | None = None
    node_id: str | None = None  # says `iot` too
    by: _Name = ""
    comment: Annotated[str, Meta(max_length=COMMENT_MAX)] = ""
    request_id: _Name = ""


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
    minutes, until = found.duration_minutes, 0
    if found.action is CommandAction.SNOOZE:
        if minutes is None or not 0 < minutes <= MINUTES_MAX:
            needed = f"above 0 and up to {MINUTES_MAX}"
            return _refuse(record, f"SNOOZE needs duration_minutes, {needed}; here it is {printable(minutes)}")
        until = at * 1000 + round(minutes * 60_000_000)
    way = IOT if found.node_id else found.way or ""
    ids = (user, found.device_id, found.rule_id)
    made = Command(*ids, found.action, until, way, at, found.by, found.comment, found.request_id)
    wrong = _problem(made)
    return _refuse(record, wrong) if wrong else made


def _problem(made: Command) -> str | None:
    """What is wrong with a command whose fields are right one by one."""
    if made.user_id == FLEET:
        return f"the user {FLEET} stands for all users, whose alerts an operator mutes: iot-stream alerts"
    if "\0" in made.rule_id + made.by + made.comment + made.request_id:
        return "rule_id, by, comment or request_id contains U+0000; leave it out"
    if made.broad and made.action is CommandAction.ACK:
        return "ACK is for the open alert of one rule on one device: name both"
    if made.rule_id == MASS_RULE_ID and made.device_id != ALL:
        return f"{MASS_RULE_ID} is of no single device: its device_id is {ALL}"
    return None


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
    state.forget_others({rule.id: rule.fingerprint for rule in rules})
    if episode is not None:
        state.touched[rule.id] = episode
        if given.action is CommandAction.ACK:
            episode.acked = True
            kept = {name: ack for name, ack in (state.acks or {}).items() if name != rule.id}
            own = {rule.id: (given.by, given.comment)} if given.by or given.comment else {}
            state.acks = kept | own or None
        elif given.action is not CommandAction.ENABLE:
            mute_episode(episode)
    _remember(state, given, rule)
    return None


def _remember(state: DeviceState, given: Command, rule: Rule) -> None:
    note = state.note(rule.id, rule.fingerprint)
    state.unmuted -= {rule.id}  # what the command does to its row counts
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
