"""Records that are routed together belong where each of them belongs alone, and came in when each of them did."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.model.arrival import AHEAD_MS, EARLIEST_MS, arrived_ms
from app.core.model.keys import CACHED_LENGTH
from app.core.processing import run_routing
from app.core.processing.run_routing import RunRouter
from app.core.routing.address import NO_CONTEXT_BEHIND, Address, address_of
from tests.unit.records import NOW_MS, Message

TOPICS = [
    *(b"users/u1/devices/d1/telemetry", b"users/u2/devices/d1/telemetry", b"iot/n/s/telemetry", b"iot/n/status", None),
    *(b"users/u1/config", b"users/u1/devices/%s/telemetry" % (b"d" * CACHED_LENGTH), b"\xff", b"elsewhere", b""),
]
STAMPS = [
    *(b"%d" % ms for ms in (NOW_MS, NOW_MS - 5, 7, EARLIEST_MS, NOW_MS + AHEAD_MS, NOW_MS + AHEAD_MS + 1, 10**15)),
    *(None, b"", b"soon", b"-5", b"1" * 400, "١٧٩٥٢٣٠٠٠٠٠٠٠".encode()),
]
GATEWAYS = st.tuples(
    st.tuples(st.just("mqtt_topic"), st.sampled_from(TOPICS)),
    st.tuples(st.just("kind"), st.sampled_from([b"telemetry", b"status", b"strange", None])),
    st.tuples(st.just("ingest_ms"), st.sampled_from(STAMPS)),
)
ONE = st.sampled_from(
    [
        *(("mqtt_topic", TOPICS[0]), ("kind", b"telemetry"), ("ingest_ms", STAMPS[0]), ("ingest_ms", STAMPS[1])),
        *(("mqtt_id", b"7"), ("gateway", b"http"), ("retained", b"1"), ("retained", b"0"), ("traceparent", b"00-1")),
        *(("replay_count", b"1"), ("mqtt_dup", b"1")),
    ]
)
HEADERS = st.builds(lambda first, more: [*first, *more], GATEWAYS, st.lists(ONE, max_size=3)) | st.lists(
    ONE, max_size=4
)
RECORDS = st.builds(
    Message,
    headers=HEADERS,
    key=st.sampled_from([b"u1/d1", b"u2/d1", None, b"\xff"]),
    timestamp=st.sampled_from([NOW_MS, NOW_MS - 9, 7, NOW_MS * 1000, -1]),
)


@given(st.lists(RECORDS, max_size=30))
def test_each_is_routed_as_if_it_were_alone(records: list[Message]) -> None:
    router = RunRouter()
    for part in (records[:9], records[9:], records):
        router.begin(NOW_MS)
        as_alone(router, part)


def as_alone(router: RunRouter, records: Sequence[Message]) -> None:
    annotated = list[Any]()
    addresses, arrivals, control = router.route(records, annotated)
    for record, address, at in zip(records, addresses, arrivals, strict=True):
        expected = address_of(record)
        assert at == arrived_ms(record, NOW_MS)
        assert (address or next(control)) == expected
        assert (address is not None) is (isinstance(expected, Address) and expected.kind == "telemetry")
    assert list(control) == []
    for record in records:  # what has a trace context is among them
        if record.headers and record.headers[-1][0] not in NO_CONTEXT_BEHIND:
            assert record in annotated
    assert not any(record in annotated for record in records if len(record.headers) == 0)


@pytest.mark.parametrize("more", [(), (("mqtt_id", b"7"),), (("gateway", b"http"),)])
def test_what_a_gateway_always_gives_is_not_annotated(more: Any) -> None:
    router, annotated = RunRouter(), list[Any]()
    head = [("mqtt_topic", b"users/u/devices/d/telemetry"), ("kind", b"telemetry"), ("ingest_ms", b"%d" % NOW_MS)]
    router.begin(NOW_MS)
    for _ in range(3):
        router.route([Message(headers=[*head, *more])] * 3, annotated)
    assert annotated == []


def test_ever_new_topics_are_not_kept_for_ever(monkeypatch: Any) -> None:
    monkeypatch.setattr(run_routing, "CACHED_TOPICS", 10)
    router = RunRouter()
    router.begin(NOW_MS)
    for number in range(25):
        topic = b"users/u/devices/d%d/telemetry" % number
        headers = [("mqtt_topic", topic), ("kind", b""), ("ingest_ms", b"%d" % NOW_MS)]
        as_alone(router, [Message(headers=headers)] * 2)
        assert len(router._topics) <= 10
