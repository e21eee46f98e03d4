"""Both ways in, Vector and `iot-stream bridge`, make the same record of the same message: key, value and headers."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gateways.mqtt import records
from app.gateways.mqtt.packets import Publish
from tests.deploy import vector

TELEMETRY, MANAGE = "users/u1/devices/d1/telemetry", "users/u1/alerts/manage"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def as_json(**fields: object) -> bytes:
    """A payload."""
    return json.dumps(fields).encode()


TOPICS = [
    TELEMETRY, MANAGE, "users/u1/config", "iot/n1/s1/telemetry", "iot/n1/status", "iot/n1/s1/status",
    "users/ü✓/devices/\U0001f600/telemetry", "users//devices//telemetry", "users//config", "iot//status",
    "iot/n1//telemetry", "users/u1/config/errors", "users/u1/alerts", "users//alerts/manage", "users", "", "/",
    "/users/u1/config", "Users/u1/config", "users/{{ x }}/devices/%Y/telemetry", "users/u/devices/d/telemetry/x",
    "iot/n1/status/telemetry", "iot/telemetry/status", "/" * 3000, f"users/{'a' * 60_000}/devices/d/telemetry",
]  # fmt: skip
PAYLOADS = [
    as_json(temperature=21.5), as_json(temperature=21.5, traceparent=PARENT), as_json(traceparent=PARENT.upper()),
    as_json(traceparent=PARENT, tracestate="a=b"), as_json(traceparent=PARENT, tracestate="a" * 512),
    as_json(traceparent=PARENT, tracestate="a" * 513), as_json(traceparent=PARENT, tracestate="ü"),
    as_json(traceparent=PARENT, tracestate="a\n"), as_json(traceparent=PARENT, tracestate=""),
    as_json(traceparent=PARENT, tracestate=5), as_json(traceparent=5), as_json(traceparent={"x": 1}),
    as_json(traceparent=PARENT + "\r\nX: y"), as_json(traceparent=PARENT + "\n"),
    as_json(traceparent="ff" + PARENT[2:]),
    as_json(traceparent="00-" + "0" * 32 + PARENT[35:]), as_json(traceparent=PARENT[:36] + "0" * 16 + "-01"),
    as_json(traceparent=PARENT[:-1]), as_json(traceparent="x" + PARENT), as_json(tracestate="a=b"),
    as_json(nested={"traceparent": PARENT}), json.dumps([{"traceparent": PARENT}]).encode(),
    b'{"\\u0074raceparent":"' + PARENT.encode() + b'"}', b'{"traceparent":"' + PARENT.encode() + b'"',
    b'{"traceparent":"\\ud800"}', b'{"traceparent":"' + PARENT.encode() + b'","traceparent":"x"}',
    b'{"traceparent":"' + PARENT.encode() + b'","a":NaN}', b'\xef\xbb\xbf{"traceparent":"' + PARENT.encode() + b'"}',
    b"", b"\x00\x00", b"online", bytes(range(256)), gzip.compress(b"{}", mtime=0), b"[" * 100_000 + b'"traceparent"',
    b'{"traceparent":' * 100_000, b'{"sequence_id":12345678901234567890123}', b'{"temperature":NaN}', b"{}" * 3,
    as_json(kafka_key="evil", topic="x", message="y", kafka_headers={"kind": "x"}, timestamp="1970-01-01T00:00:00Z"),
    as_json(device_id="d1"), as_json(device_id="ü✓"), as_json(device_id=""), as_json(device_id=5),
    as_json(device_id=None),
    as_json(device_id="d" * 256), as_json(device_id="d" * 257), as_json(device_id="ü" * 256), as_json(device_id="a/b"),
    as_json(device_id=["d1"]), as_json(other="d1"), b'["device_id"]', b'{"device_id":"d1"', b'{"device_id":"\\ud800"}',
    b'{"device_id":"d1"} ', b'{"device_id":"d1"}x', b'{"device_id":"\xff"}', b'{"device_id":"\\u0000"}',
]  # fmt: skip


def assert_same(topic: str, payload: bytes) -> None:
    """Compare; the time of arrival is each bridge's own. A packet id is what Vector cannot know, so there is none."""
    made = vector.to_record(topic, payload)
    arrived = made.headers["ingest_ms"]
    expected = records.to_record(Publish(topic, payload, 0, []), int(arrived))
    assert made == vector.Record(expected.key, expected.value, dict(expected.headers))


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: repr(topic[:40]))
def test_every_topic(topic: str) -> None:
    for payload in (b"{}", as_json(device_id="d9", traceparent=PARENT), b"\xff\x00"):
        assert_same(topic, payload)


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: repr(payload[:40]))
def test_every_payload(payload: bytes) -> None:
    for topic in (TELEMETRY, MANAGE):
        assert_same(topic, payload)


@pytest.mark.parametrize("rest", [b"1e999", b"[" * 200 + b"]" * 200], ids=["number", "depth"])
def test_what_the_two_parsers_differ_in_costs_the_trace_context_alone(rest: bytes) -> None:
    payload = b'{"traceparent":"' + PARENT.encode() + b'","a":' + rest + b"}"
    made = vector.to_record(TELEMETRY, payload)
    expected = records.to_record(Publish(TELEMETRY, payload, 0, []), int(made.headers["ingest_ms"]))
    assert (made.key, made.value) == (expected.key, payload)
    assert dict(expected.headers) == {**made.headers, "traceparent": PARENT.encode()}


level = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=5)
words = st.sampled_from(["users", "iot", "devices", "telemetry", "config", "alerts", "manage", "status"])
topics = st.sampled_from(TOPICS[:5]) | st.lists(words | level, max_size=6).map("/".join)
hexes = st.text("0123456789abcdefABCDEFx", min_size=1, max_size=4)
parents = st.just(PARENT) | st.tuples(hexes, st.just(PARENT[2:-2]), hexes).map("".join) | st.text(max_size=60)
plain = st.text() | st.integers(-(2**53), 2**53) | st.booleans() | st.none() | st.floats(-1e300, 1e300)
named = {"traceparent": parents | plain, "tracestate": st.text(max_size=20) | plain, "device_id": level | plain}
objects: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({}, optional=named)
payloads = (
    st.binary() | objects.map(lambda fields: json.dumps(fields).encode()) | plain.map(lambda x: json.dumps(x).encode())
)


@given(topics, payloads)
def test_whatever_comes(topic: str, payload: bytes) -> None:
    assert_same(topic, payload)
