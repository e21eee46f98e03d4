"""What a message becomes on the input topic: key, kind, value byte for byte, trace context only when well formed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.deadletters.envelope import from_record
from app.core.model.headers import REDELIVERED
from app.core.model.records import Kind
from app.gateways.dead_letter import rate_limited, too_large_for
from app.gateways.mqtt.packets import MalformedPublish, Publish
from app.gateways.mqtt.records import to_record
from app.gateways.record import may_be_there, own_output
from app.runtime.retry import delay
from app.runtime.tracing.metrics import CONTEXTS_INVALID

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-00"
TOPIC = "users/u1/devices/d1/telemetry"


def headers(payload: bytes, properties: list[tuple[str, str]] | None = None) -> dict[str, bytes]:
    """The headers of a telemetry message."""
    return dict(to_record(Publish(TOPIC, payload, 1, properties or []), 1795248000123).headers)


def test_the_fixed_headers() -> None:
    fixed = {"mqtt_topic": TOPIC.encode(), "kind": b"telemetry", "ingest_ms": b"1795248000123"}
    assert headers(b"{}") == {**fixed, "mqtt_id": b"1"}
    assert dict(to_record(Publish(TOPIC, b"{}", 0, []), 1795248000123).headers) == fixed  # QoS 0 has no packet id


def test_a_message_that_comes_again_says_so() -> None:
    for message in (Publish(TOPIC, b"{}", 7, [], True), MalformedPublish(b"\xff", b"{}", 7, True)):
        found = dict(to_record(message, 1).headers)
        assert (found["mqtt_id"], found["mqtt_dup"]) == (b"7", b"1")


def test_what_the_broker_had_retained_says_so() -> None:
    for message in (Publish(TOPIC, b"{}", 7, [], False, True), MalformedPublish(b"\xff", b"{}", 0, False, True)):
        assert dict(to_record(message, 1).headers)["retained"] == b"1"
    assert "retained" not in dict(to_record(Publish(TOPIC, b"{}", 7, [], True), 1).headers)


def test_a_message_that_was_put_back_says_how_often_ahead_of_its_trace() -> None:
    properties = [("replay_count", "3"), ("traceparent", PARENT), ("replay_count", "7")]
    found = to_record(Publish(TOPIC, b"{}", 1, properties), 1).headers
    assert found[-2:] == [("replay_count", b"3"), ("traceparent", PARENT.encode())]


@pytest.mark.parametrize(
    "count", ["", "0", "-1", "1.5", "x", "\u0663", "1\n", "1" * 10, "1" * 60_000], ids=lambda one: one[:9]
)
def test_what_is_no_count_of_replays_is_left_out(count: str) -> None:
    assert "replay_count" not in headers(b"{}", [("replay_count", count)])


def as_json(**fields: object) -> bytes:
    """A payload."""
    return json.dumps(fields).encode()


def test_a_record_that_kafka_may_have_already_says_so_once() -> None:
    """A write whose ack does not come: sent again, its dead letter must be known as a repeat."""
    sent = to_record(Publish("users/u/devices/d/telemetry", b"{}", 7, []), 1)
    unacked = to_record(Publish("users/u/devices/d/telemetry", b"{}", 0, []), 1)
    for _ in range(2):
        may_be_there([sent, unacked])
    assert sent.headers.count((REDELIVERED, b"1")) == 1
    assert unacked.headers.count((REDELIVERED, b"1")) == 1


@pytest.mark.parametrize(
    "payload",
    [
        as_json(traceparent=5),
        as_json(traceparent={"x": 1}),
        as_json(traceparent=PARENT + "\r\nX: y"),
        as_json(traceparent=PARENT + "\n"),
        as_json(traceparent="00-" + "0" * 32 + "-00f067aa0ba902b7-01"),
        as_json(traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01"),
        as_json(traceparent="ff" + PARENT[2:]),
        as_json(tracestate="a=b"),
        as_json(nested={"traceparent": PARENT}),
        b'{"traceparent":"' + PARENT.encode() + b'"',
        b'["traceparent"]',
        b'{"traceparent":"\\ud800"}',
        b"[" * 100_000 + b'"traceparent"',
        b'{"traceparent":' * 100_000,
    ],
)
def test_no_header_from_a_bad_context(payload: bytes) -> None:
    assert set(headers(payload)) == {"mqtt_topic", "kind", "ingest_ms", "mqtt_id"}


def counted(payload: bytes, properties: list[tuple[str, str]] | None = None) -> tuple[dict[str, bytes], float]:
    """The trace headers, and how many contexts were counted as not well formed."""
    before = CONTEXTS_INVALID._value.get()
    found = {name: value for name, value in headers(payload, properties).items() if name.startswith("trace")}
    return found, CONTEXTS_INVALID._value.get() - before


@pytest.mark.parametrize(
    "parent",
    [
        "",
        PARENT[:-1],
        PARENT + "0",
        PARENT * 20_000,
        "ff" + PARENT[2:],
        PARENT[:3] + "0" * 32 + PARENT[35:],
        PARENT[:36] + "0" * 16 + PARENT[52:],
        PARENT.replace("a", "\0"),
        PARENT.replace("a", "\n"),
        PARENT.replace("0", "\u0660"),  # a digit, but not ours
        "\u0130" * 55,  # grows when it is lowered
        PARENT.replace("-", "_"),
        PARENT.replace("b", "g"),
    ],
    ids=lambda parent: repr(parent[:60]),
)
def test_a_hostile_traceparent_is_left_out_and_counted_once(parent: str) -> None:
    assert counted(b"{}", [("traceparent", parent)]) == ({}, 1)
    assert counted(as_json(traceparent=parent)) == ({}, 1)
    assert counted(as_json(traceparent=parent), [("traceparent", parent)]) == ({}, 1)
    good = {"traceparent": PARENT.encode()}
    assert counted(as_json(traceparent=PARENT), [("traceparent", parent)]) == (good, 1)


@pytest.mark.parametrize("parent", [5, True, 1e308, [PARENT], {"x": PARENT}])
def test_so_is_one_of_a_wrong_type(parent: object) -> None:
    assert counted(as_json(traceparent=parent)) == ({}, 1)


def test_null_is_none() -> None:
    assert counted(as_json(traceparent=None)) == ({}, 0)


@pytest.mark.parametrize("state", ["a" * 10_240, "a=b\r\nX: y", "a=\0", "a=\u00fc"], ids=["10 KB", "lines", "NUL", "ü"])
def test_a_hostile_tracestate_costs_itself_alone(state: str) -> None:
    good = {"traceparent": PARENT.encode()}
    assert counted(b"{}", [("traceparent", PARENT), ("tracestate", state)]) == (good, 1)
    assert counted(as_json(traceparent=PARENT, tracestate=state)) == (good, 1)
    assert counted(as_json(traceparent=PARENT, tracestate=7)) == (good, 1)
    assert counted(b"{}", [("traceparent", PARENT), ("tracestate", "")]) == (good, 0)


def test_what_is_said_twice_counts_once_and_is_counted() -> None:
    good = {"traceparent": PARENT.encode(), "tracestate": b"a=b"}
    well = [("traceparent", PARENT), ("tracestate", "a=b")]
    assert counted(b"{}", well) == (good, 0)
    assert counted(b"{}", [*well, ("traceparent", OTHER)] * 500) == (good, 1)
    assert counted(b"{}", [*well, ("x", "1"), ("x", "2")]) == (good, 0)


@pytest.mark.parametrize(("baggage", "count"), [("user=1,b=2;p", 0), ("a=b\r\nX: y", 1), ("a=\0", 1), ("a" * 8193, 1)])
def test_baggage_is_never_carried_on_and_counted_where_it_is_none(baggage: str, count: int) -> None:
    assert counted(b"{}", [("baggage", baggage)]) == ({}, count)


def test_a_traceparent_is_the_last_header() -> None:
    message = Publish(TOPIC, b"{}", 1, [("traceparent", PARENT), ("tracestate", "a=b")], True, True)
    assert [name for name, _ in to_record(message, 1).headers][-2:] == ["tracestate", "traceparent"]


def test_context_from_the_payload() -> None:
    found = headers(as_json(traceparent=PARENT.upper(), tracestate="a=b"))
    assert (found["traceparent"], found["tracestate"]) == (PARENT.encode(), b"a=b")
    assert "tracestate" not in headers(as_json(traceparent=PARENT, tracestate="a=ü"))
    assert "tracestate" not in headers(as_json(traceparent=PARENT, tracestate="a" * 513))


def test_user_properties_come_first_unless_malformed() -> None:
    payload = as_json(traceparent=OTHER, tracestate="p=1")
    found = headers(payload, [("traceparent", PARENT), ("traceparent", "second"), ("x", "y")])
    assert found["traceparent"] == PARENT.encode()
    assert "tracestate" not in found, "a state belongs to its own parent"
    assert headers(payload, [("traceparent", "nonsense")])["traceparent"] == OTHER.encode()


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (as_json(device_id="d9", rule_id="r", action="ACK"), b"u1/d9"),
        (as_json(rule_id="r"), b"u1"),
        (as_json(device_id=""), b"u1"),
        (as_json(device_id=5), b"u1"),
        (as_json(device_id="d" * 300), b"u1"),
        (b'{"device_id":"\\ud800"}', b"u1"),
        (b"", b"u1"),
        (b"\xff", b"u1"),
        (b"[" * 100_000, b"u1"),
    ],
)
def test_alerts_manage_meets_its_device(payload: bytes, key: bytes) -> None:
    record = to_record(Publish("users/u1/alerts/manage", payload, 1, []), 0)
    assert (record.kind, record.key, record.value) == (Kind.ALERTS_MANAGE, key, payload)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.binary(max_size=200), st.integers(0, 65535))
def test_value_and_topic_are_never_changed(topic: str, payload: bytes, packet_id: int) -> None:
    record = to_record(Publish(topic, payload, packet_id, []), 7)
    assert record.value == payload
    assert record.packet_id == packet_id
    assert dict(record.headers)["mqtt_topic"] == topic.encode()
    assert record.ingest_ms == 7


def test_a_damaged_message_is_forwarded_as_unknown() -> None:
    record = to_record(MalformedPublish(b"users/\xff/devices/d/telemetry", b"\0", 3), 1)
    assert (record.kind, record.key, record.value, record.packet_id) == (
        Kind.UNKNOWN,
        b"users/\xff/devices/d/telemetry",
        b"\0",
        3,
    )
    assert not own_output(record)


@pytest.mark.parametrize(
    ("topic", "own"),
    [("users/u/alerts", True), ("users/u/alerts/errors", True), ("users/u/config/errors", True), ("users/u/x", False)],
)
def test_own_outputs_are_recognised(topic: str, own: bool) -> None:
    assert own_output(to_record(Publish(topic, b"", 1, []), 0)) is own


def test_a_refused_record_is_dead_lettered_whole() -> None:
    record = to_record(Publish(TOPIC, b"\x00\xff", 1, []), 5)
    dead = too_large_for(record, "iot-stream")
    envelope = json.loads(dead.value)
    assert dead.key == b"u1/d1"
    assert (envelope["payload_base64"], envelope["reason"], envelope["original_topic"]) == (
        "AP8=",
        "payload_too_large",
        TOPIC,
    )
    assert dict(dead.headers)["mqtt_topic"] == TOPIC.encode()


def test_a_message_over_a_limit_is_dead_lettered_whole_and_can_be_replayed() -> None:
    record = to_record(Publish(TOPIC, b"\x00\xff", 7, []), 1795248000123)
    dead = rate_limited(record, "more than 5 messages a second", "iot-stream")
    letter = from_record(dead.value, dead.headers)
    assert letter is not None
    assert (letter.reason, letter.stage, letter.payload, letter.key) == ("rate_limited", "route", b"\x00\xff", b"u1/d1")
    assert list(letter.headers) == record.headers
    assert "more than 5 messages a second" in letter.error
    assert (letter.source_topic, letter.source_partition, letter.source_offset) == ("iot-stream", -1, -1)


def test_the_wait_doubles_up_to_its_bound() -> None:
    for attempt in range(2000):
        assert min(10.0, 0.1 * 2 ** min(attempt, 30)) / 2 <= delay(attempt) <= min(10.0, 0.1 * 2 ** min(attempt, 30))
