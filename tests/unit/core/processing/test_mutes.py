"""SNOOZE and DISABLE of a rule, a device or a user, and of presence: what is sent, what is kept, how they end."""

from collections.abc import Mapping

import msgspec
import pytest

from app.core.batch.effects import Effect, Statement
from app.core.batch.output import BatchOutput
from app.core.decode.decoder import DecodeLimits
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PresenceLimits
from app.core.processing.processor import Processor
from app.core.rules.mutes import FOREVER, Mute, compile_mutes, read_mutes
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.core.processing.test_processor import Subject, other, telemetry
from tests.unit.presence_world import Given
from tests.unit.presence_world import World as Fleet
from tests.unit.readings import rule
from tests.unit.records import NOW, NOW_MS, Message

HOT, LOW = rule("temperature"), rule("battery", "<", 10, id="low")
SCOPES = [("temperature", "*"), ("*", "d"), ("*", "*")]


class World:
    """The user u; the worker starts anew before each record, and has the mutes that the database has by then."""

    def __init__(self, *rules: Mapping[str, object]) -> None:
        self.states, self.offset = dict[bytes, bytes](), 0
        self.book, self.mutes = RuleBook(DEFAULT), dict[tuple[str, str], object]()
        assert not self.book.apply([("u", msgspec.json.encode(rules).decode())])

    def send(self, minute: float, topic: str, payload: Mapping[str, object], key: bytes = b"u/d") -> BatchOutput:
        at = NOW_MS + round(minute * 60_000)
        headers = (("mqtt_topic", topic.encode()), ("kind", b"x"), ("ingest_ms", b"%d" % at))
        record = Message(msgspec.json.encode(payload), headers, key, at, self.offset)
        self.offset += 1
        load, classes = self.states.get, DeviceClasses((), PresenceLimits(5.0))
        processor = Processor(DecodeLimits(), DEFAULT, self.book, lambda _, key: load(key), classes)
        work = processor(Given([record], self.offset, 0), at / 1000)  # type: ignore[arg-type]
        self.states |= work.states
        for effect in work.effects:
            self._carry_out(effect)
        return work

    def _carry_out(self, effect: Effect) -> None:
        if effect.statement is Statement.UPSERT_MUTE:
            self.mutes[effect.args[1:3]] = msgspec.json.decode(effect.args[3])
        elif effect.statement is Statement.DELETE_MUTE:
            self.mutes.pop(effect.args[1:3], None)
        self.book.mute("u", compile_mutes(read_mutes(msgspec.json.encode(list(self.mutes.values())))))

    def manage(self, minute: float, action: str, rule_id: str, device_id: str, **more: object) -> BatchOutput:
        command = {"action": action, "rule_id": rule_id, "device_id": device_id, **more}
        return self.send(minute, "users/u/alerts/manage", command, f"u/{device_id}".encode())

    def reading(self, minute: float, device: str = "d", **fields: object) -> list[str]:
        payload = {"timestamp": NOW.timestamp() + minute * 60, "sequence_id": self.offset, **fields}
        self.work = self.send(minute, f"users/u/devices/{device}/telemetry", payload, f"u/{device}".encode())
        return [f"{one.rule_id} {one.status} {one.cause or ''}".strip() for one in self.work.events]

    def rows(self) -> list[str]:
        """The states of active_alerts that the last reading wrote."""
        return [one.args[10] for one in self.work.alert_effects if one.statement is Statement.UPSERT_ACTIVE_ALERT]


@pytest.mark.parametrize(("rule_id", "device_id"), SCOPES)
def test_a_snooze_of_more_than_one_alert(rule_id: str, device_id: str) -> None:
    world = World(HOT, LOW)
    assert world.reading(0, temperature=90) == ["temperature FIRING"]
    world.manage(1, "SNOOZE", rule_id, device_id, duration_minutes=10)
    assert world.reading(2, temperature=91) == []
    assert world.rows() == ["SNOOZED"]
    assert world.reading(3, battery=5) == ([] if rule_id == "*" else ["low FIRING"])
    assert world.reading(4, temperature=20) == ["temperature RESOLVED"]
    assert world.reading(5, temperature=90) == []
    assert world.reading(5, "other", temperature=90) == ([] if device_id == "*" else ["temperature FIRING"])
    assert world.reading(11.1, temperature=90) == ["temperature FIRING"]


@pytest.mark.parametrize(("rule_id", "device_id"), SCOPES)
def test_disabled_until_enabled(rule_id: str, device_id: str) -> None:
    world = World(HOT)
    world.manage(0, "DISABLE", rule_id, device_id, by="ann", comment="is being rebuilt")
    (kept,) = world.mutes.values()
    assert {"rule_id": rule_id, "device_id": device_id, "by": "ann", "until": None}.items() <= dict(kept).items()  # type: ignore[call-overload]
    assert world.reading(1, temperature=90) == []
    assert world.reading(600_000, temperature=90) == []
    world.manage(600_001, "ENABLE", rule_id, device_id)
    assert world.mutes == {}
    assert world.reading(600_002, temperature=90) == ["temperature FIRING"]


def test_an_open_alert_is_sent_again_when_its_mute_ends() -> None:
    world = World(HOT)
    world.reading(0, temperature=90)
    world.manage(1, "DISABLE", "*", "d")
    assert (world.reading(2, temperature=91), world.rows()) == ([], ["DISABLED"])
    world.manage(3, "ENABLE", "*", "d")
    assert world.reading(4, temperature=92) == ["temperature FIRING unmuted"]
    assert world.rows() == ["FIRING"]


def test_an_edit_of_the_rules_leaves_the_mutes() -> None:
    world = World(HOT)
    world.manage(0, "DISABLE", "*", "*")
    assert not world.book.apply([("u", msgspec.json.encode([rule("temperature", threshold=50)]).decode())])
    assert world.reading(1, temperature=90) == []
    world.book.apply([("u", None)])
    world.manage(2, "ENABLE", "*", "*")
    assert not world.book.in_force("u").mutes


def test_a_device_is_muted_before_its_first_reading() -> None:
    world = World(HOT)
    work = world.manage(0, "DISABLE", "temperature", "new")
    assert (work.dropped, len(work.forwards)) == ({"forwarded": 1}, 1)
    command = msgspec.json.decode(work.forwards[0].value)
    (refused,) = world.send(0, "users/u/alerts/manage", command, work.forwards[0].key).rejected
    assert refused.detail.endswith('say "way": "users" or "iot" to mute it before its first')
    work = world.manage(1, "DISABLE", "temperature", "new", way="users")
    assert (len(work.commands), work.rejected) == (1, [])
    assert world.reading(2, "new", temperature=90) == []
    world.manage(3, "ENABLE", "temperature", "new")
    assert world.reading(4, "new", temperature=90) == ["temperature FIRING"]


def test_a_device_that_had_no_rules_is_muted_before_the_first_reading_under_one() -> None:
    subject = Subject()
    subject(telemetry(0, temperature=90))
    subject.rules(HOT)
    command = {"action": "DISABLE", "rule_id": "temperature", "device_id": "d", "way": "users"}
    assert subject(other("users/u/alerts/manage", msgspec.json.encode(command), 1)).rejected == []
    assert subject(telemetry(2, temperature=90)).events == []


def test_what_is_not_there_is_refused_and_what_is_history_is_not_done_again() -> None:
    world = World(HOT, LOW)
    (refused,) = world.manage(0, "DISABLE", "wrong", "*").rejected
    assert refused.detail == "rule_id is wrong; the rules of this user are temperature, low"
    (refused,) = world.manage(1, "ACK", "temperature", "*").rejected
    assert refused.detail.startswith("ACK is for the open alert of one rule")
    (refused,) = world.manage(2, "DISABLE", "$mass-offline", "d").rejected
    assert refused.detail == "$mass-offline is of no single device: its device_id is *"
    world.manage(3, "DISABLE", "*", "*")
    world.offset -= 1
    again = world.manage(3, "DISABLE", "*", "*")
    assert (again.effects, again.commands_again) == ([], 1)


@pytest.mark.parametrize(("action", "more"), [("SNOOZE", {"duration_minutes": 5}), ("DISABLE", {}), ("ENABLE", {})])
def test_a_sender_who_asks_is_answered(action: str, more: dict[str, object]) -> None:
    world = World(HOT)
    for rule_id in ("temperature", "*"):
        assert world.manage(0, action, rule_id, "d", way="users", **more).answers == []
        (reply,) = world.manage(0, action, rule_id, "d", way="users", request_id="r1", **more).answers
        found = msgspec.json.decode(reply.value)
        assert (reply.topic, found["request_id"], found["status"]) == ("users/u/alerts/errors", "r1", "obeyed")
    (reply,) = world.manage(0, action, "wrong", "d", way="users", request_id="r2", **more).answers
    assert msgspec.json.decode(reply.value)["request_id"] == "r2"


@pytest.mark.parametrize("rule_id", ["temperature", "*", "$offline", "gone"])
@pytest.mark.parametrize(("action", "more"), [("SNOOZE", {"duration_minutes": 5}), ("DISABLE", {})])
def test_enable_says_when_there_was_nothing_to_end(rule_id: str, action: str, more: dict[str, object]) -> None:
    world = World(HOT, rule("battery", "<", 10, id="gone"))
    device = "*" if rule_id == "gone" else "d"

    def notes(minute: float) -> object:
        (reply,) = world.manage(minute, "ENABLE", rule_id, device, way="users", request_id="r1").answers
        return msgspec.json.decode(reply.value).get("note")

    assert notes(0) == "the worker knows of no mute of this device and rule"
    world.manage(1, action, rule_id, device, way="users", **more)
    assert (notes(2), notes(3)) == (None, "the worker knows of no mute of this device and rule")
    world.manage(4, "SNOOZE", rule_id, device, way="users", duration_minutes=1)
    assert notes(6) == "the worker knows of no mute of this device and rule", "the snooze was over"


def test_what_was_said_with_ack_is_in_later_events_until_the_alert_is_over() -> None:
    world = World(rule("temperature", escalate={"after_seconds": 60, "severity": "critical"}))
    world.reading(0, temperature=90)
    world.manage(1, "ACK", "temperature", "d", by="ann", comment="on my way")
    assert world.reading(2, temperature=91) == []
    assert world.reading(3, temperature=20) == ["temperature RESOLVED"]
    (event,) = world.work.events
    assert (event.assignee, event.comment) == ("ann", "on my way")
    world.reading(4, temperature=90)
    assert world.work.events[0].assignee is msgspec.UNSET


@pytest.mark.parametrize("rule_id", ["$offline", "*"])
@pytest.mark.parametrize("device_id", ["d1", "*"])
def test_silence_is_muted(rule_id: str, device_id: str) -> None:
    fleet = Fleet()
    fleet.reads("d1")
    fleet.work()
    mute = {"rule_id": rule_id, "device_id": device_id, "since": NOW.isoformat()}
    fleet.book.mute("u", compile_mutes(read_mutes(msgspec.json.encode([mute]))))
    fleet.goes_on(40)
    assert fleet.reported == []
    assert fleet.rows["u/d1"][3] == "offline", "what is disabled is noted all the same"


def test_a_device_whose_silence_was_snoozed_is_reported_afterwards() -> None:
    fleet = Fleet()
    fleet.reads("d1")
    fleet.work()
    until = (NOW.fromtimestamp(fleet.now + 30, NOW.tzinfo)).isoformat()
    mute = {"rule_id": "$offline", "device_id": "d1", "since": NOW.isoformat(), "until": until}
    fleet.book.mute("u", compile_mutes(read_mutes(msgspec.json.encode([mute]))))
    fleet.goes_on(29)
    assert fleet.reported == []
    fleet.goes_on(30)
    assert [one["status"] for one in fleet.reported] == ["FIRING"]


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[1]",
        '[{"rule_id": "a"}]',
        '[{"rule_id": "*", "device_id": "*", "since": "2026-01-01T00:00:00"}]',
        "\udcff",
    ],
)
def test_mutes_that_nobody_can_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_mutes(text)


@pytest.mark.parametrize("muted", [False, True])
def test_what_is_muted_does_not_go_stale(muted: bool) -> None:
    fleet = Fleet(rules=(rule("temperature", no_data_seconds=10),))
    fleet.reads("d1", temperature=90)
    fleet.work()
    mute = {"rule_id": "*", "device_id": "d1", "since": NOW.isoformat()}
    fleet.book.mute("u", compile_mutes(read_mutes(msgspec.json.encode([mute] if muted else []))))
    fleet.goes_on(60)
    found = [one["status"] for one in fleet.reported if one["rule_id"] == "temperature"]
    assert found == (["FIRING"] if muted else ["FIRING", "STALE"])
    assert len([claim for claim in fleet.claims if claim.what == "no_data"]) == 1, "it is claimed once, and settled"
    fleet.book.mute("u", ())
    fleet.reads("d1", temperature=91)
    fleet.work()
    told = [one for one in fleet.reported if one["rule_id"] == "temperature"]
    assert told[-1]["cause"] == ("unmuted" if muted else "data_again")


def test_a_mute_of_all_users_is_no_message_and_holds_for_everybody() -> None:
    world = World(HOT)
    command = {"action": "DISABLE", "rule_id": "*", "device_id": "*"}
    (refused,) = world.send(0, "users/*/alerts/manage", command, b"*/*").rejected
    assert refused.detail == "the user * stands for all users, whose alerts an operator mutes: iot-stream alerts"
    world.book.mute("*", (Mute("temperature", "*", FOREVER),))
    assert world.reading(1, temperature=90) == []
    world.book.mute("*", ())
    assert world.reading(2, temperature=90) == ["temperature FIRING"]
