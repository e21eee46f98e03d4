"""What is shown of records: decoded as a worker does it, or as they are; and which of them somebody asked for."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from app.cli.render.tap import Paint, lines
from app.core.deadletters.envelope import to_record
from app.core.model.records import Rejected
from app.inspect.decoding import RecordDecoder
from app.inspect.filters import ViewFilter
from app.inspect.text import json_line
from app.inspect.views import MqttRecord, RecordView, Viewer, as_json
from app.settings import Settings
from tests.unit.inspect.test_text import harmless
from tests.unit.records import GOOD, NOW_MS, Message, read

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
viewer = Viewer(RecordDecoder(Settings()))


class Placed(Struct):
    """A record as a consumer gives it."""

    value: bytes | None = GOOD
    headers: Any = (("mqtt_topic", b"users/u1/devices/d1/telemetry"), ("kind", b"telemetry"))
    key: bytes | None = b"u1/d1"
    timestamp: int = NOW_MS
    offset: int = 42
    topic: str = "iot-stream"
    partition: int = 5


def machine(view: RecordView) -> Any:
    return json.loads(json_line(as_json(view)))


def test_a_reading() -> None:
    headers = (*Placed().headers, ("traceparent", PARENT), ("note", None), ("raw", b"\xff"))
    found = machine(viewer.input(Placed(headers=headers), NOW_MS))
    assert (found["topic"], found["partition"], found["offset"], found["key"]) == ("iot-stream", 5, 42, "u1/d1")
    assert (found["kind"], found["user_id"], found["device_id"]) == ("telemetry", "u1", "d1")
    assert (found["sequence_id"], found["trace_id"]) == (7, PARENT[3:35].decode())
    assert found["headers"][3:] == [{"name": "note", "value": None}, {"name": "raw", "value_base64": "/w=="}]
    assert found["payload"]["humidity"] == 41.2
    assert "error" not in found


@pytest.mark.parametrize(
    ("topic", "payload", "ids", "sequence"),
    [
        (b"users/u1/devices/d1/telemetry", b'{"sequence_id":7,"time":5}', ("u1", "d1"), 7),
        (b"users/u1/devices/d1/telemetry", b'{"sequence_id":"7"}', ("u1", "d1"), 7),
        (b"users/u1/devices/d1/telemetry", b'{"sequence_id":7', ("u1", "d1"), None),
        (b"users/\x01/devices/d1/telemetry", b'{"sequence_id":7}', ("\x01", "d1"), 7),
        (b"elsewhere", b'{"user_id":"u1","device_id":"d1","sequence_id":7}', ("u1", "d1"), 7),
        (b"elsewhere", b'{"user_id":"\\ud800","device_id":1}', ("", ""), None),
        (b"\xff", b"", ("", ""), None),
    ],
)
def test_of_what_is_refused_as_much_as_can_be_read(
    topic: bytes, payload: bytes, ids: tuple[str, str], sequence: int | None
) -> None:
    view = viewer.input(Placed(payload, [("mqtt_topic", topic)], None), NOW_MS)
    assert (view.user_id, view.device_id, view.sequence_id) == (*ids, sequence)
    assert view.error
    assert view.reason


def test_other_kinds_and_devices_of_nodes() -> None:
    manage = Placed(b'{"device_id":"d1","action":"ACK"}', [("mqtt_topic", b"users/u1/alerts/manage")])
    view = viewer.input(manage, NOW_MS)
    assert (view.kind, view.user_id, view.device_id, view.error) == ("alerts_manage", "u1", "d1", "")
    node = Placed(b'{"value":1}', [("mqtt_topic", b"iot/n1/s1/telemetry")], b"n1")
    view = viewer.input(node, NOW_MS)
    assert (view.user_id, view.device_id, view.sequence_id is not None) == ("n1", "s1", True)
    bare = viewer.input(Placed(headers=()), NOW_MS)
    assert (bare.user_id, bare.device_id, bare.sequence_id) == ("u1", "d1", 7)


def letter(payload: bytes | None) -> Placed:
    rejected = read(Message(payload))
    assert isinstance(rejected, Rejected)
    key, value, headers = to_record(rejected, "iot-stream", 5, "2026-11-21T03:00:00+00:00")
    return Placed(value, headers, key, topic="iot-stream-dlq")


def test_a_dead_letter_has_its_original_in_it() -> None:
    found = machine(viewer.dead_letter(letter(b'{"sequence_id":7,"battery":90.5,"time":1795230000}'), NOW_MS))
    assert (found["reason"], found["stage"], found["source"]["offset"]) == ("wrong_type", "validate", 42)
    assert (found["user_id"], found["device_id"], found["sequence_id"]) == ("u1", "d1", 7)
    assert found["payload"]["battery"] == 90.5
    assert machine(viewer.dead_letter(letter(None), NOW_MS))["tombstone"] is True
    assert machine(viewer.dead_letter(letter(b"\xff\x00"), NOW_MS))["payload_base64"] == "/wA="


def test_what_is_no_envelope_and_no_event_is_shown_as_it_is() -> None:
    for view in (viewer.dead_letter(Placed(b"junk"), NOW_MS), viewer.alert(Placed(b"junk"), NOW_MS)):
        found = machine(view)
        assert (found["undecodable"], found["payload_text"]) == (True, "junk")
        assert "cannot be decoded" in "\n".join(lines(view, Paint(False)))


def test_alerts_and_answers() -> None:
    event = Placed(b'{"alert_id":"a","user_id":"u1","device_id":"d1","status":"FIRING"}', ())
    view = viewer.alert(event, NOW_MS)
    assert (view.kind, view.user_id, view.device_id) == ("alert", "u1", "d1")
    assert machine(view)["payload"]["status"] == "FIRING"
    answer = viewer.alert(Placed(b"{}", [("mqtt_topic", b"users/u1/config/errors")]), NOW_MS)
    assert answer.kind == "answer"


def test_mqtt_messages() -> None:
    def view(topic: str, payload: bytes, properties: Any = ()) -> RecordView:
        return viewer.mqtt(MqttRecord(payload, NOW_MS, properties), topic, NOW_MS, {"topic": topic, "retained": False})

    reading = view("users/u1/devices/d1/telemetry", GOOD, [("traceparent", PARENT)])
    assert (reading.kind, reading.sequence_id, reading.error) == ("telemetry", 7, "")
    assert (reading.trace_id, reading.headers) == (PARENT[3:35].decode(), [("traceparent", PARENT)])
    alert = view("users/u1/alerts", b"{}")
    assert (alert.kind, alert.user_id, alert.error) == ("alert", "u1", "")
    assert view("somewhere/else", b"{}").reason == "unknown_topic"


def test_filters() -> None:
    view = viewer.input(Placed(), NOW_MS)
    for wanted in (ViewFilter(), ViewFilter("u1"), ViewFilter("u1", "d*", ["telemetry"]), ViewFilter(device="d1")):
        assert wanted.takes(view)
    for wanted in (ViewFilter("u"), ViewFilter(device="d"), ViewFilter(kinds=["status"]), ViewFilter(reasons=["bad"])):
        assert not wanted.takes(view)
    assert ViewFilter(reasons=["bad_json"]).takes(viewer.input(Placed(b"{"), NOW_MS))


def test_lines_for_a_person() -> None:
    assert list(lines(viewer.input(Placed(b'{"sequence_id": 7'), NOW_MS), Paint(False))) == [
        "2026-11-21T03:00:00.000Z iot-stream-5@42 telemetry u1/d1",
        '    decode: bad_json Input data was truncated, near nce_id": 7',
        "    headers mqtt_topic=users/u1/devices/d1/telemetry kind=telemetry",
        '    {"sequence_id": 7',
    ]
    head = next(lines(viewer.input(Placed(), NOW_MS), Paint(True)))
    assert head.startswith("\x1b[2m2026-11-21T03:00:00.000Z\x1b[0m iot-stream-5@42 \x1b[36mtelemetry\x1b[0m")
    dead = list(lines(viewer.dead_letter(letter(b"\x1b[2J"), NOW_MS), Paint(False)))
    assert dead[0].endswith("telemetry u1/d1 from iot-stream-5@42")
    assert dead[-1].startswith("    00000000  1b 5b 32 4a ")


@given(
    st.one_of(st.none(), st.binary()),
    st.lists(
        st.tuples(st.sampled_from(["mqtt_topic", "kind", "traceparent", "\x1b"]), st.one_of(st.none(), st.binary()))
    ),
    st.one_of(st.none(), st.binary()),
    st.integers(-(2**63), 2**63 - 1),
)
def test_any_record_is_shown_and_harmless(value: bytes | None, headers: Any, key: bytes | None, stamp: int) -> None:
    record = Placed(value, headers, key, stamp)
    for view in (viewer.input(record, NOW_MS), viewer.dead_letter(record, NOW_MS), viewer.alert(record, NOW_MS)):
        assert harmless("".join(lines(view, Paint(False))))
        assert harmless(json_line(as_json(view)))
        assert machine(view)["offset"] == 42
