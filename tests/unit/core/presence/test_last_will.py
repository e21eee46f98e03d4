"""Last wills, as firmware and bridges really send them."""

import msgspec
import pytest

from app.core.presence.last_will import says_offline, word_of
from tests.unit.presence_world import World

GONE = [
    b"offline", b"Offline", b"OFFLINE\r\n", b'"offline"', b"'offline'", b"off-line", b"false", b"False", b"0", b"0\n",
    b"lost", b"LOST", b"disconnected", b"Disconnected.", b"connection lost", b"connection_lost", b"not connected",
    b"down", b"dead", b"unavailable", b"not_available", b"no", b'{"state": "offline"}', b'{"state":"OFFLINE"}',
    b'{"status": false}', b'{"status": "lost", "by": "will"}', b'{"online": false}', b'{"online": 0}',
    b'{"connected": "false"}', b'{"status": "ok", "online": false}', b'{"Status": "Offline"}', b'{"LWT": "Offline"}',
    b' \n{"availability": "offline"}', b'{"status": 0}', b'{"status": null, "state": "offline"}',
]  # fmt: skip
THERE = [
    b"online", b"Online", b"true", b"1", b"ready", b"sleeping", b"rebooting", b"OFF", b"on", b'{"state": "online"}',
    b'{"status": true}', b'{"online": true}', b'{"status": "online", "offline": true}', b"downloading",
    b"offline since", b"10", b'{"status": 1}',
]  # fmt: skip


@pytest.mark.parametrize("payload", GONE, ids=repr)
def test_a_last_will_is_reported_at_once(payload: bytes) -> None:
    assert says_offline(word_of(payload))
    world = World()
    world.says("n", "online")
    world.work()
    world.append(b"n", payload, [("mqtt_topic", b"iot/n/status")])
    world.work()
    assert world.statuses("n/") == ["FIRING"]
    (row,) = world.rows.values()
    assert says_offline(row[3])


@pytest.mark.parametrize("payload", THERE, ids=repr)
def test_any_other_word_is_a_sign_of_life(payload: bytes) -> None:
    assert not says_offline(word_of(payload))
    world = World()
    world.says("n", "offline")
    world.append(b"n", payload, [("mqtt_topic", b"iot/n/status")])
    world.work()
    world.goes_on(30)
    assert world.statuses("n/") == ["FIRING"], "the node was online"


def test_a_large_number_is_only_a_word() -> None:
    assert word_of(b'{"status": 1' + b"0" * 300 + b"}") == "1" + "0" * 300
    with pytest.raises((KeyError, msgspec.DecodeError)):
        word_of(b'{"status": 1' + b"0" * 5000 + b"}")
