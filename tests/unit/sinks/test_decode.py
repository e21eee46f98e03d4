"""The records of a sink: decoded as by the worker; skipped and filtered records are counted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.model.records import Kind
from app.settings import Settings
from app.sinks.decode import SinkDecoder
from tests.sink_records import message, status_record
from tests.unit.records import NOW_MS, Message


def decoder(**settings: Any) -> SinkDecoder:
    return SinkDecoder(Settings(_env_file=None, **settings))


def test_a_reading_comes_with_all_that_a_sink_may_want() -> None:
    record = message(7, humidity=41.2)
    (found,) = decoder().decode(3, [record])
    assert (found.topic, found.partition, found.offset, found.kind) == ("iot-stream", 3, 7, Kind.TELEMETRY)
    assert (found.user_id, found.device_id, found.key) == ("u1", "d1", "u1/d1")
    assert (found.payload, found.headers, found.source) == (record.value, record.headers, record)
    assert found.ingest_ms == record.timestamp
    assert (found.reading.temperature, found.reading.battery, found.reading.sequence_id) == (20.5, 80, 7)
    assert found.reading.extra_json == '{"humidity":41.2}'


def test_devices_of_users_and_nodes_have_different_keys() -> None:
    payload = {"value": 1, "timestamp": NOW_MS}
    iot = Message(json.dumps(payload).encode(), [("mqtt_topic", b"iot/u1/d1/telemetry")], b"u1", NOW_MS, 0)
    found = decoder().decode(0, [iot, message(1)])
    assert [one.key for one in found] == ["iot/u1/d1", "u1/d1"]
    assert {(one.user_id, one.device_id) for one in found} == {("u1", "d1")}


def test_a_record_without_headers_names_its_device_itself() -> None:
    value = json.dumps({"user_id": "a", "device_id": "b", "sequence_id": 1, "timestamp": NOW_MS}).encode()
    (found,) = decoder().decode(0, [Message(value, [], b"a/b", NOW_MS, 0)])
    assert found.key == "a/b"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (message(0, b"no json"), "bad_json"),
        (message(0, b"{}"), "missing_field"),
        (message(0, b""), "empty"),
        (message(0, {"sequence_id": 1, "timestamp": 0}), "time_too_old"),
        (Message(b"{}", [("mqtt_topic", b"nonsense")]), "unknown_topic"),
        (Message(b"", [("kind", b"telemetry")], b"u/d"), "empty_payload"),
    ],
)
def test_what_a_worker_refuses_is_skipped_and_counted(record: Message, reason: str) -> None:
    sink = decoder()
    assert [one.offset for one in sink.decode(0, [message(5), record, message(6)])] == [5, 6]
    assert sink.skipped == {reason: 1}
    assert sink.filtered == 0


def test_a_retained_reading_without_a_time_is_history() -> None:
    topic = [("mqtt_topic", b"iot/n/s/telemetry"), ("retained", b"1")]
    sink = decoder()
    assert not sink.decode(0, [Message(b'{"value": 1}', topic)])
    assert sink.skipped == {"retained": 1}


def test_kinds() -> None:
    records = [message(0), status_record(1), status_record(2, b""), status_record(3, b"\xff")]
    sink = decoder()
    assert [one.offset for one in sink.decode(0, records)] == [0]
    assert (sink.filtered, sink.skipped) == (3, {})
    sink = decoder(sink_kinds=("status",))
    (found,) = sink.decode(0, records)
    assert (found.offset, found.kind, found.key, found.reading, found.payload) == (
        1,
        Kind.STATUS,
        "iot/n1",
        None,
        b"online",
    )
    assert sink.filtered == 1
    assert sum(sink.skipped.values()) == 2


def test_a_command_and_a_rule_set_are_checked_as_far_as_they_can_be() -> None:
    def of(topic: bytes, value: bytes, offset: int) -> Message:
        return Message(value, [("mqtt_topic", topic)], b"u1", NOW_MS, offset)

    good = b'{"device_id": "d1", "rule_id": "r", "action": "ENABLE"}'
    records = [
        of(b"users/u1/alerts/manage", good, 0),
        of(b"users/u1/alerts/manage", b"{}", 1),
        of(b"users/u1/config", b'{"rules": []}', 2),
        of(b"users/u1/config", b'{"rules": 7}', 3),
    ]
    sink = decoder(sink_kinds=("config", "alerts_manage"))
    assert [(one.offset, one.key) for one in sink.decode(0, records)] == [(0, "u1"), (2, "u1")]
    assert sink.skipped == {"invalid_command": 1, "invalid_rules": 1}


def test_owners_are_filtered_by_id_and_glob() -> None:
    records = [message(at, user=user, device=device) for at, (user, device) in enumerate(
        [("eu-1", "d1"), ("eu-2", "x"), ("us-1", "d2"), ("me", "d1")]
    )]  # fmt: skip
    sink = decoder(sink_users=("eu-*", "me"), sink_devices=("d?",))
    assert [one.offset for one in sink.decode(0, records)] == [0, 3]
    assert sink.filtered == 2


def test_only_the_fields_that_pass_are_given() -> None:
    engine = b'{"oil":{"temp":90,"level":1.50},"rpm":900}'
    payload = b'{"sequence_id":1,"timestamp":%d,"temperature":20.5,"battery":3,"hum":40,"engine":%s,"gps":{"lat":1}}'
    records = [
        message(0, payload % (NOW_MS, engine)),
        message(1, {"sequence_id": 1, "timestamp": NOW_MS, "battery": 3, "humidity": 2}),
        message(2, {"sequence_id": 1, "timestamp": NOW_MS, "gps": 5}),
    ]
    settings = Settings(_env_file=None, time_past_max=10**9, sink_keys=("temp*", "engine.oil.*", "gps"))
    sink = SinkDecoder(settings)
    first, last = sink.decode(0, records)
    assert (first.reading.temperature, first.reading.battery) == (20.5, None)
    assert json.loads(first.reading.extra_json) == {"engine": {"oil": {"temp": 90, "level": 1.5}}, "gps": {"lat": 1}}
    assert b'"level":1.50' in first.payload.replace(b" ", b""), "numbers stay as they were sent"
    assert json.loads(first.payload).keys() == {
        "user_id", "device_id", "sequence_id", "timestamp", "temperature", "engine", "gps",
    }  # fmt: skip
    assert last.payload == records[2].value, "nothing was left out"
    assert sink.filtered == 1
    assert decoder(time_past_max=10**9).decode(0, [Message(first.payload, records[0].headers, b"u1/d1", 0, 0)])


@given(st.lists(st.binary(max_size=60) | st.just(b'{"sequence_id":1,"timestamp":1795226400123}'), max_size=20))
def test_nothing_is_raised_and_the_books_balance(payloads: list[bytes]) -> None:
    sink = decoder(sink_keys=("a*",), sink_kinds=tuple(Kind), sink_devices=("d*",))
    topics = [b"users/u/devices/d/telemetry", b"users/u/config", b"iot/n/status", b"\xff", b"users/u/alerts/manage"]
    records = [
        Message(value, [("mqtt_topic", topics[at % 5]), ("kind", b"telemetry"), ("ingest_ms", value)], value, 0, at)
        for at, value in enumerate(payloads)
    ]
    found = sink.decode(0, records)
    assert len(found) + sink.filtered + sum(sink.skipped.values()) == len(records)


GOOD = b'{"sequence_id":1,"timestamp":1795226400123}'
MORE = [("mqtt_id", b"7"), ("gateway", b"http"), ("retained", b"1"), ("traceparent", b"00"), ("x", None)]
TOPICS = [b"users/u/devices/d/telemetry", b"iot/n/s/telemetry"]
RECORDS = st.tuples(
    st.sampled_from([*TOPICS, b"users/u/devices/e/telemetry", None]),
    st.sampled_from([GOOD, b'{"value":1}', b"{}", b"", None]),
    st.lists(st.sampled_from(MORE), max_size=3),
)


def from_bridge(topic: bytes | None, value: bytes | None, offset: int, more: Any = ()) -> Message:
    headers = [("mqtt_topic", topic), ("kind", b"telemetry"), ("ingest_ms", b"%d" % NOW_MS), *more]
    return Message(value, headers, b"u/d", 0, offset)


@given(st.lists(RECORDS, min_size=1, max_size=12))
def test_a_device_that_was_seen_before_is_decoded_as_the_first_time(records: list[Any]) -> None:
    """The address of a known device is cached; the decoded record is the same."""
    known, fresh = (decoder(time_past_max=10**9, sink_devices=("d", "s")) for _ in range(2))
    known.decode(0, [from_bridge(topic, GOOD, 0) for topic in TOPICS])
    for at, (topic, value, more) in enumerate(records):
        made = from_bridge(topic, value, at, more)
        fresh._places.clear()
        assert [plain(one) for one in known.decode(0, [made])] == [plain(one) for one in fresh.decode(0, [made])]
    assert (known.filtered, known.skipped) == (fresh.filtered, fresh.skipped)


def plain(record: Any) -> list[object]:
    """The comparable parts of a record: the raw JSON of fields compares by identity."""
    values = [getattr(record, name) for name in record.__struct_fields__ if name != "reading"]
    return [*values, record.reading.time, record.reading.sequence_id, record.reading.extra_json]
