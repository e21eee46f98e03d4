"""Retained messages are history, and a message without a payload is nobody's mistake."""

import msgspec
import pytest

from app.core.batch.effects import Statement
from app.core.decode.dated import is_dated
from app.core.routing.address import Address, address_of
from app.core.state.device_state import decode
from tests.unit.core.alerts.test_commands import manage
from tests.unit.core.processing.test_processor import HOT, Subject, other, telemetry
from tests.unit.presence_world import START, World
from tests.unit.records import Message

RETAINED = ("retained", b"1")


def kept(record: Message) -> Message:
    """The same, as a broker gives it to whoever subscribes."""
    return msgspec.structs.replace(record, headers=(*record.headers, RETAINED))


@pytest.mark.parametrize(
    ("value", "retained"), [(b"1", True), (b"true", True), (b"0", False), (b"", False), (None, False)]
)
def test_the_header(value: bytes, retained: bool) -> None:
    for place in (0, 1, 2):
        headers = [("mqtt_topic", b"iot/n/s/telemetry"), ("ingest_ms", b"1")]
        headers.insert(place, ("retained", value))
        address = address_of(Message(headers=headers))
        assert isinstance(address, Address)
        assert address.retained is retained
    plain = address_of(Message(headers=headers[:2]))
    assert isinstance(plain, Address)
    assert not plain.retained, "what is cached of a topic must not remember it"


def test_a_reading_without_a_time_is_left_out() -> None:
    live = other("iot/n/s/telemetry", b'{"temperature": 21.5}', 0)
    work = Subject()(live, kept(msgspec.structs.replace(live, offset=1)))
    assert len(work.rows) == 1
    assert work.dropped == {"retained": 1}
    assert work.rejected == []


@pytest.mark.parametrize(
    ("payload", "dated"),
    [
        (b'{"value": 1}', False), (b'{"time": null, "timestamp": null}', False), (b'{"a": {"time": 1}}', False),
        (b'{"a": "\\"time\\": 1"}', False), (b'{"time": 5, "time": null}', False), (b'{"timestamp": 5}', True),
        (b'{"timestamp": null, "time": "2026-11-21T02:00:00Z"}', True), (b'{"\\u0074ime": 5}', True),
    ],
)  # fmt: skip
def test_what_bears_a_time(payload: bytes, dated: bool) -> None:
    assert is_dated(payload) is dated


def test_a_reading_with_a_time_is_stored_and_moves_nothing_that_is_as_new() -> None:
    subject = Subject({**HOT, "consecutive": 2})
    hot = telemetry(0, temperature=90)
    first = subject(hot, kept(msgspec.structs.replace(hot, offset=1)))
    assert ([row[3] for row in first.rows], first.events) == ([0, 0], [])
    state = decode(first.states[b"u/d"])
    assert state.episodes["temperature"].count == 1
    newer = subject(kept(telemetry(2, temperature=95)))
    assert [str(event.status) for event in newer.events] == ["FIRING"], "nobody knows of anything newer"
    older = subject(kept(msgspec.structs.replace(telemetry(1, temperature=20), offset=3)))
    assert (len(older.rows), older.events) == (1, [])


def test_a_command_is_not_carried_out_again_and_not_answered() -> None:
    subject = Subject(HOT)
    subject(telemetry(0, temperature=90))
    work = subject(kept(manage(1)), kept(manage(2, "NOTHING")), kept(manage(3, device_id="nobody")))
    assert work.dropped == {"retained": 3}
    assert (work.commands, work.rejected, work.answers, work.events) == ([], [], [], [])
    assert b"u/d" not in work.states


def test_a_config_is_for_who_has_none_and_a_bad_one_is_not_answered() -> None:
    good, bad = kept(other("users/u/config", b"[]", 0)), kept(other("users/u/config", b"{", 1))
    work = Subject()(good, bad)
    (effect,) = work.effects
    assert effect.statement is Statement.INSERT_CONFIG
    assert len(effect.args) == 5
    assert [one.record.offset for one in work.rejected] == [1]
    assert work.answers == []


def test_a_status_is_for_a_node_without_a_row_and_no_sign_of_life() -> None:
    world = World()
    for word in ("online", "offline"):
        world.says("n", word)
        world.log[-1] = kept(world.log[-1])
        world.work()
        assert world.reported == []
    assert world.rows["n"][3] == "online", "the first one; nothing was known of the node"
    world.goes_on(30, ["n/s"])
    world.says("n", "offline")
    world.log[-1] = kept(world.log[-1])
    world.work()
    world.goes_on(5, ["n/s"])
    assert world.reported == []
    assert world.rows["n"][3] == "online"


@pytest.mark.parametrize("device", ["d", "n/s"])
def test_a_reading_does_not_bring_the_dead_to_life(device: str) -> None:
    world = World()
    world.goes_on(20, [device])
    world.goes_on(20)
    reported = len(world.reported)
    assert reported > 0
    world.reads(device)
    world.log[-1] = kept(world.log[-1])
    world.work()
    world.goes_on(20)
    assert len(world.reported) == reported
    assert all(row[4].timestamp() < START + 25 for row in world.rows.values())


@pytest.mark.parametrize(
    "topic",
    [
        "users/u/devices/d/telemetry", "users/u/config", "users/u/alerts/manage", "iot/n/status", "iot/n/s/telemetry",
        "nowhere",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [b"", None])
def test_an_empty_message_is_counted_and_otherwise_ignored(topic: str, value: bytes | None) -> None:
    record = msgspec.structs.replace(other(topic, b"", 0), value=value)
    for one in (record, kept(record)):
        work = Subject()(one)
        assert work.dropped == {"empty": 1}
        assert (work.rows, work.effects, work.rejected, work.answers) == ([], [], [], [])
        assert sum(work.kinds.values()) == 1


def test_an_empty_record_that_did_not_come_by_mqtt_is_a_mistake() -> None:
    work = Subject()(Message(b"", (), b"u/d", offset=0))
    assert work.dropped == {}
    assert [str(one.reason) for one in work.rejected] == ["empty_payload"]
