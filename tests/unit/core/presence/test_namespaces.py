"""`users/u/devices/d` and `iot/u/d` are two devices, also right after an upgrade from when they were one."""

from typing import Any

import msgspec
import pytest

from app.core.batch.effects import Statement
from app.core.batch.output import BatchOutput
from app.core.decode.decoder import DecodeLimits
from app.core.model.alert_event import alert_id
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PresenceLimits as PresenceLimits
from app.core.processing.processor import Processor
from tests import DEFAULT
from tests.unit.core.alerts.test_commands import manage
from tests.unit.core.processing.test_processor import HOT, NOW, Subject, telemetry
from tests.unit.presence_world import AFTER, World
from tests.unit.records import Message


def of_node(record: Message) -> Message:
    """The same reading or command, as of iot/u/d."""
    topic = record.headers[0][1].replace(b"users/u/devices/d/", b"iot/u/d/")
    return msgspec.structs.replace(record, headers=(("mqtt_topic", topic), *record.headers[1:]), key=b"u")


def reported(work: BatchOutput) -> list[tuple[str, str]]:
    events = [msgspec.json.decode(value) for _, value in work.alerts]
    return [(event.get("way", ""), event["status"]) for event in events]


def rows(work: BatchOutput) -> list[tuple[Statement, str]]:
    """Of active_alerts: the statement and the way."""
    found = [one for one in work.alert_effects if "ACTIVE" in one.statement.upper()]
    return [(one.statement, one.args[4 if one.statement.startswith("delete") else 12]) for one in found]


def test_neither_resolves_the_other() -> None:
    subject = Subject(HOT)
    work = subject(telemetry(0, temperature=90), of_node(telemetry(1, temperature=90)))
    assert reported(work) == [("", "FIRING"), ("iot", "FIRING")]
    assert rows(work) == [(Statement.UPSERT_ACTIVE_ALERT, ""), (Statement.UPSERT_ACTIVE_ALERT, "iot")]
    assert {b"u/d", b"iot/u/d"} < set(work.states)
    over = subject(of_node(telemetry(2, temperature=20)), epoch=2)
    assert reported(over) == [("iot", "RESOLVED")]
    assert rows(over) == [(Statement.DELETE_ACTIVE_ALERT, "iot")]
    assert reported(subject(telemetry(3, temperature=20), epoch=3)) == [("", "RESOLVED")]


def test_alert_ids_differ_and_those_of_users_stay() -> None:
    hot = telemetry(0, temperature=90)
    (old,) = Subject(HOT)(hot).events
    (new,) = Subject(HOT)(of_node(hot)).events
    seen = round(old.first_seen.timestamp()) * 1_000_000
    assert old.alert_id == alert_id("u", "d", "temperature", seen)
    assert new.alert_id == alert_id("u", "d", "temperature", seen, way="iot")
    assert old.alert_id != new.alert_id


def test_silence_is_each_ones_own() -> None:
    world = World()
    assert not world.book.apply([("n", "[]")])
    for _ in range(30):
        world.passes(1)
        for topic in (b"users/n/devices/s/telemetry", b"iot/n/s/telemetry"):
            value = msgspec.json.encode({"time": world.now, "sequence_id": len(world.log)})
            world.append(b"", value, [("mqtt_topic", topic)])
        world.append(b"", b"online", [("mqtt_topic", b"iot/n/status")])
        world.work()
        world.look()
    for _ in range(20):
        world.passes(1)
        value = msgspec.json.encode({"time": world.now, "sequence_id": len(world.log)})
        world.append(b"", value, [("mqtt_topic", b"users/n/devices/s/telemetry")])
        world.append(b"", b"online", [("mqtt_topic", b"iot/n/status")])
        world.work()
        world.look()
        world.work()
    assert [(one.get("way", ""), one["device_id"], one["status"]) for one in world.reported] == [("iot", "s", "FIRING")]


def as_before(states: dict[tuple[int, bytes], bytes]) -> dict[tuple[int, bytes], bytes]:
    """The states of sensors, as a version stored them that had one name for both ways."""
    found = {}
    for (partition, key), value in states.items():
        if key.startswith(b"\0seen/iot/"):
            value = msgspec.msgpack.encode(msgspec.msgpack.decode(value)[:7])
        found[partition, key.replace(b"iot/", b"", 1)] = value
    return found


def watched(subject: Subject, home: Any = None) -> Processor:
    classes = DeviceClasses((), PresenceLimits(AFTER))
    return Processor(DecodeLimits(), DEFAULT, subject.book, subject._load, classes, home=home)


@pytest.mark.parametrize("known_by", ["presence", "key"])
def test_what_was_stored_before_is_taken_over_once(known_by: str) -> None:
    subject = Subject(HOT)
    subject.processor = watched(subject)
    (fired,) = subject(of_node(telemetry(0, temperature=90))).events
    subject.states = as_before(subject.states)
    assert (0, b"u/d") in subject.states
    home = None
    if known_by == "key":
        home = lambda key: {b"u/d": 1, b"u": 0}[key]  # noqa: E731
        subject.states = {place: value for place, value in subject.states.items() if b"seen" not in place[1]}
    subject.processor = watched(subject, home)
    work = subject(of_node(telemetry(1, temperature=20)), epoch=2)
    assert [(event.status, event.alert_id) for event in work.events] == [("RESOLVED", fired.alert_id)]
    adopted = [one.args for one in work.alert_effects if one.statement is Statement.ADOPT_ACTIVE_ALERT]
    assert adopted == [("u", "d", "temperature", fired.alert_id)]
    order = [one.statement for one in work.alert_effects]
    assert order.index(Statement.ADOPT_ACTIVE_ALERT) < order.index(Statement.DELETE_ACTIVE_ALERT)
    later = subject(of_node(telemetry(2, temperature=90)), epoch=3)
    assert reported(later) == [("iot", "FIRING")]
    assert Statement.ADOPT_ACTIVE_ALERT not in [one.statement for one in later.alert_effects]


def test_a_sensor_that_is_new_takes_nothing_from_a_device_of_that_name() -> None:
    subject = Subject(HOT)
    subject.processor = watched(subject)
    assert reported(subject(telemetry(0, temperature=90))) == [("", "FIRING")]
    subject.processor = watched(subject)
    assert reported(subject(of_node(telemetry(1, temperature=20)), epoch=2)) == []
    assert reported(subject(telemetry(2, temperature=20), epoch=3)) == [("", "RESOLVED")]


def test_a_sensor_that_was_offline_before_is_back_once() -> None:
    """The sensor's node sends all the time."""
    world = World()
    world.goes_on(20, ["n/s", "n/other"])
    world.goes_on(20, ["n/other"])
    (fired,) = world.reported
    world.states = {key: value for (_, key), value in as_before({(0, k): v for k, v in world.states.items()}).items()}
    world.begin()
    # The version before made ids without the way.
    since = msgspec.msgpack.decode(world.states[b"\0seen/n/s"])[5]
    old = alert_id("n", "s", "$offline", since * 1000)
    world.goes_on(10, ["n/other"])
    assert len(world.reported) == 1, "the status is not reported again"
    world.goes_on(2, ["n/s", "n/other"])
    assert [(one["status"], one["alert_id"]) for one in world.reported[1:]] == [("RESOLVED", old)]
    world.goes_on(20, ["n/other"])
    assert world.reported[2]["status"] == "FIRING"
    assert world.reported[2]["alert_id"] != fired["alert_id"]


def test_no_ghost_of_a_sensor_falls_silent() -> None:
    """What is stored of it by its old name is not a device of its own."""
    world = World()
    world.goes_on(20, ["n/s"])
    world.states |= {key: value for (_, key), value in as_before({(0, k): v for k, v in world.states.items()}).items()}
    world.begin()
    world.goes_on(60, ["n/s"])
    assert world.reported == []


COMMAND = {"device_id": "d", "rule_id": "temperature", "action": "ACK"}


@pytest.mark.parametrize("more", [{"way": "iot"}, {"node_id": "u"}])
def test_a_command_that_says_iot(more: dict[str, str]) -> None:
    subject = Subject(HOT)
    subject(telemetry(0, temperature=90), of_node(telemetry(1, temperature=90)))
    command = msgspec.structs.replace(manage(2, "ACK", **more), key=b"u")
    work = subject(command, of_node(telemetry(3, temperature=91)), telemetry(4, temperature=91))
    assert work.commands == [command]
    states = {one.args[12]: one.args[10] for one in work.alert_effects if one.statement.endswith("active_alert")}
    assert states == {"iot": "ACKED", "": "FIRING"}


@pytest.mark.parametrize("open_way", ["", "iot"])
def test_a_command_that_does_not_say_is_for_who_has_an_open_alert(open_way: str) -> None:
    subject = Subject(HOT)
    hot, cold = telemetry(0, temperature=90), telemetry(1, temperature=20)
    subject(hot if not open_way else of_node(hot), cold if open_way else of_node(cold))
    work = subject(manage(2, "SNOOZE"))
    assert rows(work) == [(Statement.UPSERT_ACTIVE_ALERT, open_way)]
    again = subject(manage(2, "SNOOZE"))
    assert (len(again.commands), again.commands_again) == (1, 1)


def test_a_command_that_nobody_can_obey_here_goes_on_once() -> None:
    subject = Subject(HOT)
    command = msgspec.structs.replace(manage(0, "ACK"), key=b"u/d")
    work = subject(command)
    assert (work.dropped, work.rejected, work.answers) == ({"forwarded": 1}, [], [])
    (forward,) = work.forwards
    assert forward.key == b"u"
    names = [name for name, _ in forward.headers]
    assert names == ["mqtt_topic", "ingest_ms"]
    there = Subject(HOT)
    there(of_node(telemetry(0, temperature=90)))
    record = Message(forward.value, forward.headers, forward.key, int(NOW * 1000), 1)
    assert there(record).commands == [record]
    refused = Subject(HOT)(record)
    assert [str(one.reason) for one in refused.rejected] == ["invalid_command"]
    assert len(refused.answers) == 1
    assert subject(command, epoch=2).forwards == [], "a replay sends nothing on"


@pytest.mark.parametrize(
    "payload",
    [{**COMMAND, "way": "IOT"}, {**COMMAND, "node_id": "v"}, {**COMMAND, "node_id": "u", "way": "users"}],
)
def test_a_command_that_contradicts_itself(payload: dict[str, str]) -> None:
    record = msgspec.structs.replace(manage(0), value=msgspec.json.encode(payload), key=b"u")
    work = Subject(HOT)(record)
    assert len(work.rejected) == len(work.answers) == 1
