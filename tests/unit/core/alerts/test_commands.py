"""`users/{user}/alerts/manage`: what is a command, what is none, and how commands meet readings in a batch."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from app.core.alerts.commands import MINUTES_MAX, Command, CommandAction, command
from app.core.batch.effects import Statement
from app.core.model.records import Kind, Reason, Rejected, Stage
from app.core.model.times import micros
from app.core.routing.address import Address
from tests.unit.core.processing.test_processor import HOT, NOW, START, Subject, other, telemetry
from tests.unit.readings import rule
from tests.unit.records import NOW_MS, Message

ADDRESS = Address(Kind.ALERTS_MANAGE, "u", "", "users/u/alerts/manage")
SNOOZE = {"device_id": "d", "rule_id": "temperature", "action": "SNOOZE", "duration_minutes": 30}


def read(payload: object, address: Address = ADDRESS, **more: Any) -> Command | Rejected:
    return command(Message(msgspec.json.encode(payload), **more), address, NOW_MS)


def manage(offset: int, action: str = "SNOOZE", headers: Any = (), **changes: object) -> Message:
    body = {**SNOOZE, "action": action} | changes
    return other("users/u/alerts/manage", msgspec.json.encode(body), offset)


@pytest.mark.parametrize("bad", ["\n", "\x7f", "\x9f", "\ufdd0", "\U0001fffe"])
def test_a_device_id_that_no_topic_should_have(bad: str) -> None:
    found = read({**SNOOZE, "device_id": f"d{bad}"})
    assert isinstance(found, Rejected)
    assert (found.reason, found.stage) == (Reason.BAD_ID, Stage.VALIDATE)
    assert found.detail.isprintable()


def test_commands() -> None:
    until = NOW_MS * 1000 + 30 * 60_000_000
    assert read(SNOOZE, headers=()) == Command("u", "d", "temperature", CommandAction.SNOOZE, until, at=NOW_MS)
    half = read({**SNOOZE, "duration_minutes": 0.5, "user_id": "u", "by": "night shift"}, headers=())
    until = NOW_MS * 1000 + 30_000_000
    assert half == Command("u", "d", "temperature", CommandAction.SNOOZE, until, at=NOW_MS, by="night shift")
    for action in (CommandAction.DISABLE, CommandAction.ENABLE, CommandAction.ACK):
        assert read({**SNOOZE, "action": action}) == Command("u", "d", "temperature", action, at=NOW_MS)


def test_a_snooze_counts_from_when_it_came_in_also_when_it_is_replayed() -> None:
    found = command(Message(msgspec.json.encode(SNOOZE)), ADDRESS, NOW_MS - 86_400_000)
    assert isinstance(found, Command)
    assert found.until == (NOW_MS - 86_400_000) * 1000 + 30 * 60_000_000


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "the command is empty; send"), (b"{", "send {"), (b"[]", "Expected `object`"), (b"\xff", "send {"),
        ({**SNOOZE, "action": "SNOZE"}, "Invalid enum value 'SNOZE'"), ({**SNOOZE, "action": 5}, "Expected `str`"),
        ({**SNOOZE, "rule_id": 5}, "Expected `str`, got `int` - at `$.rule_id`"),
        ({"device_id": "d", "action": "ACK"}, "missing required field `rule_id`"),
        ({**SNOOZE, "duration_minutes": None}, f"above 0 and up to {MINUTES_MAX}; here it is None"),
        ({**SNOOZE, "duration_minutes": 0}, "here it is 0"), ({**SNOOZE, "duration_minutes": -1}, "here it is -1"),
        ({**SNOOZE, "duration_minutes": 10**7}, "here it is 10000000"),
        ({**SNOOZE, "duration_minutes": "5"}, "got `str`"),
        ({**SNOOZE, "user_id": "v"}, "user_id is v; leave it to the topic"),
        ({**SNOOZE, "device_id": ""}, "device_id is , which no device has"),
        ({**SNOOZE, "device_id": "a/b"}, "a/b, which"),
        ({**SNOOZE, "device_id": "a\0"}, "which no device has"), (b"[" * 100_000, "send {"),
    ],
)  # fmt: skip
def test_what_is_no_command(payload: Any, words: str) -> None:
    value = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    found = command(Message(value), ADDRESS, NOW_MS)
    assert isinstance(found, Rejected)
    assert (found.reason, found.stage) == (Reason.INVALID_COMMAND, Stage.VALIDATE)
    assert words in found.detail
    assert "\n" not in found.detail


def test_commands_meet_readings_in_their_order_and_are_in_the_books() -> None:
    subject = Subject(HOT)
    work = subject(telemetry(0, temperature=90), manage(1, "ACK"), manage(2, "DISABLE"), telemetry(3, temperature=91))
    assert [str(event.status) for event in work.events] == ["FIRING"]
    assert [record.offset for record in work.commands] == [1, 2]
    assert (work.commands_again, work.rejected, work.kinds[Kind.ALERTS_MANAGE]) == (0, [], 2)
    again = subject(manage(2, "DISABLE"), manage(4, "ENABLE"), telemetry(5, temperature=92), epoch=2)
    assert again.commands_again == 1
    assert [(str(event.status), event.repeat) for event in again.events] == [("FIRING", 1)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device_id": "other"}, "no reading of device other has come here under a rule"),
        ({"rule_id": "x"}, "rule_id is x; the rules of this device are temperature, low"),
        ({"action": "ACK"}, "there is no open alert of temperature to acknowledge"),
    ],
)
def test_a_command_that_cannot_be_obeyed_changes_nothing(changes: dict[str, Any], words: str) -> None:
    subject = Subject(HOT, rule("battery", "<", 10, id="low"))
    subject(telemetry(0, temperature=20))
    before = dict(subject.states)
    work = subject(manage(1, **changes))
    assert [(one.reason, one.record.offset) for one in work.rejected] == [(Reason.INVALID_COMMAND, 1)]
    assert words in work.rejected[0].detail
    assert work.commands == []
    assert {key: value for key, value in subject.states.items() if key[1] == b"u/d"} == {
        key: value for key, value in before.items() if key[1] == b"u/d"
    }


def test_a_command_to_a_device_that_had_no_rules_does_not_keep_it_without() -> None:
    subject = Subject()
    subject(telemetry(0, temperature=20))
    assert len(subject(manage(1, "ACK")).rejected) == 1
    subject.rules(HOT)
    assert len(subject(manage(2, "DISABLE")).rejected) == 1
    assert len(subject(telemetry(3, temperature=90)).events) == 1


def test_alerts_are_written_to_the_tables_once_a_batch() -> None:
    subject = Subject(HOT)
    work = subject(*(telemetry(n, temperature=t) for n, t in enumerate([90, 20, 91, 92])))
    history = [e.args[:3] for e in work.alert_effects if e.statement is Statement.INSERT_HISTORY]
    assert [args[1:] for args in history] == [("FIRING", 0), ("RESOLVED", 0), ("FIRING", 0)]
    (row,) = [e for e in work.alert_effects if e.statement is not Statement.INSERT_HISTORY]
    assert row.statement is Statement.UPSERT_ACTIVE_ALERT
    times = (START + timedelta(seconds=2), START + timedelta(seconds=3))
    alert = ("u", "d", "temperature", history[2][0], "warning", "m", 92.0, 80.0)
    assert row.args == (*alert, *times, "FIRING", None, "", None, None)
    muted, snoozed = subject(manage(4)).alert_effects
    until = int(NOW * 1_000_000) + 30 * 60_000_000
    assert (snoozed.args[10], micros(snoozed.args[11])) == ("SNOOZED", until)
    assert (muted.statement, micros(muted.args[4])) == (Statement.UPSERT_MUTED_ALERT, until)
    assert subject(manage(5, "DISABLE")).alert_effects[1].args[10] == "DISABLED"
    unmuted, enabled = subject(manage(6, "ENABLE"), manage(7, "ACK", by="ann", comment="on it")).alert_effects
    assert enabled.args[10:] == ("ACKED", None, "", "ann", "on it")
    assert unmuted == type(unmuted)(Statement.DELETE_MUTED_ALERT, ("u", "d", "temperature", ""))
    assert subject(telemetry(8, battery=5)).alert_effects == []
    _, gone = subject(telemetry(9, temperature=20)).alert_effects
    assert gone == type(gone)(Statement.DELETE_ACTIVE_ALERT, ("u", "d", "temperature", times[0], ""))


def test_an_alert_whose_rule_changed_leaves_the_table() -> None:
    subject = Subject(HOT)
    subject(telemetry(0, temperature=90))
    subject.rules({**HOT, "threshold": 95})
    reported, gone = subject(telemetry(1, temperature=90)).alert_effects
    assert (reported.args[1], gone.statement) == ("RESOLVED", Statement.DELETE_ACTIVE_ALERT)


def test_a_reading_from_the_future_does_not_silence_its_device() -> None:
    """Seen before this was fixed: no alert for as long as the one reading was ahead."""
    subject = Subject(rule("temperature", ">", 80, for_seconds=3))
    came = int(START.timestamp() * 1000)

    def live(offset: int, seconds: float, temperature: float, ahead: float) -> Message:
        message = telemetry(offset, time=START + timedelta(seconds=seconds + ahead), temperature=temperature)
        message.timestamp = came + round(seconds * 1000) + 20
        return message

    values = [(0.0, 20, 0), (1, 90, 280), (2.1, 90, 0), (4, 90, 0), (5.1, 90, 0), (6, 20, 0)]
    work = subject(*(live(n, *value) for n, value in enumerate(values)))
    assert [(str(e.status), e.event_time - START) for e in work.events] == [
        ("FIRING", timedelta(seconds=5.1)),
        ("RESOLVED", timedelta(seconds=6)),
    ]
    assert work.events[0].first_seen == START + timedelta(seconds=2.02)
    assert work.rows[1][0] == START + timedelta(seconds=281)


def test_a_device_whose_clock_is_ahead_alerts_in_the_order_of_arrival() -> None:
    subject = Subject(HOT)
    records = [telemetry(n, time=START + timedelta(seconds=200 - n), temperature=t) for n, t in enumerate([90, 20, 91])]
    for n, record in enumerate(records):
        record.timestamp = int(START.timestamp() * 1000) + n * 1000
    assert [str(e.status) for e in subject(*records).events] == ["FIRING", "RESOLVED", "FIRING"]
