"""A record's address: topic before kind before key. Dead ends are in cases/route.json."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.model.identity import IDS_MAX_BYTES
from app.core.model.records import Kind, Reason, Rejected
from app.core.routing.address import Address, address_in_order, address_of
from tests.unit.records import Message

U, D = "u1", "d1"


@pytest.mark.parametrize(
    ("headers", "key", "expected"),
    [
        (
            [("mqtt_topic", b"users/u1/devices/d1/telemetry")],
            None,
            Address(Kind.TELEMETRY, U, D, "users/u1/devices/d1/telemetry"),
        ),
        ([("mqtt_topic", b"users/u1/config")], None, Address(Kind.CONFIG, U, "", "users/u1/config")),
        (
            [("mqtt_topic", b"users/u1/alerts/manage")],
            b"u1/d1",
            Address(Kind.ALERTS_MANAGE, U, "", "users/u1/alerts/manage"),
        ),
        (
            [("mqtt_topic", b"iot/n/s/telemetry")],
            b"n",
            Address(Kind.TELEMETRY, "n", "s", "iot/n/s/telemetry", lenient=True, owner="iot/n"),
        ),
        ([("mqtt_topic", b"iot/n/status")], b"n", Address(Kind.STATUS, "n", "", "iot/n/status", lenient=True)),
        (
            [("kind", b"silence"), ("mqtt_topic", b"users/u1/config")],
            b"a/b",
            Address(Kind.CONFIG, U, "", "users/u1/config"),
        ),
        (
            [("mqtt_topic", b"users/u1/config"), ("mqtt_topic", b"a/b")],
            b"a/b",
            Address(Kind.CONFIG, U, "", "users/u1/config"),
        ),
        ([("kind", b"silence")], b"u1/d1", Address(Kind.SILENCE, U, D)),
        ([("kind", b"status")], b"n", Address(Kind.STATUS, "n", "")),
        ([("kind", b"config")], None, Address(Kind.CONFIG, "", "")),
        ([("kind", b"silence")], b"\xff\xff", Address(Kind.SILENCE, "", "")),
        ([("kind", b"telemetry")], b"u1/d1", Address(Kind.TELEMETRY, "", "")),
        ([("traceparent", b"\xff")], b"u1/d1", Address(Kind.TELEMETRY, "", "")),
        ([], None, Address(Kind.TELEMETRY, "", "")),
    ],
)
def test_address(headers: Sequence[tuple[str, bytes]], key: bytes | None, expected: Address) -> None:
    assert address_of(Message(headers=headers, key=key)) == expected


def test_the_longest_ids() -> None:
    fits = "u" * (IDS_MAX_BYTES - 1)
    assert isinstance(
        address_of(Message(headers=[("mqtt_topic", f"users/{fits}/devices/d/telemetry".encode())])), Address
    )
    found = address_of(Message(headers=[("mqtt_topic", f"users/{fits}/devices/dd/telemetry".encode())]))
    assert isinstance(found, Rejected)
    assert found.reason is Reason.KEY_TOO_LONG


@given(
    st.lists(st.tuples(st.sampled_from(["mqtt_topic", "kind", "x"]), st.binary(max_size=40)), max_size=4),
    st.none() | st.binary(max_size=20),
)
def test_no_headers_make_it_raise(headers: list[tuple[str, bytes]], key: bytes | None) -> None:
    record = Message(headers=headers, key=key)
    found = address_of(record)
    assert isinstance(found, Address) or found.record is record


@given(
    st.sampled_from(
        [b"users/u1/devices/d1/telemetry", b"iot/n/s/telemetry", b"nowhere", b"\xff", b"", b"u" * 9999, None]
    ),
    st.lists(
        st.tuples(
            st.sampled_from(["mqtt_topic", "kind", "mqtt_id", "gateway", "retained", "traceparent", "x"]),
            st.sampled_from([b"1", b"0", b"", None]),
        ),
        max_size=3,
    ),
)
def test_in_order_it_is_the_same(topic: bytes | None, more: list[tuple[str, bytes]]) -> None:
    headers: Any = [("mqtt_topic", topic), ("kind", b"telemetry"), ("ingest_ms", b"1795230000000"), *more]
    record, annotated = Message(headers=headers, key=b"u/d"), list[Message]()
    assert address_in_order(record, headers, annotated) == address_of(record)
    alone = [name for name, _ in more] in ([], ["mqtt_id"], ["gateway"])
    assert annotated == ([] if alone and topic is not None and len(topic) < 9999 else [record])
