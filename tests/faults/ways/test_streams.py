"""What is sent by each way is known again on the input topic, and nothing else is taken for it."""

import json
from datetime import UTC, datetime

import pytest

from app.gateways.protobuf_records import events, metrics
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import Arrival, item
from app.local.layout import WAYS
from app.ports import Account
from app.protobuf.events_pb2 import EventBatch
from app.protobuf.metrics_pb2 import MetricBatch
from tools.faults.load import BAD_EVERY
from tools.faults.ways.streams import WayStream

BEGIN = datetime(2026, 11, 1, microsecond=1, tzinfo=UTC)


def stream(way: str) -> WayStream:
    return WayStream(way, "alice", 10, 3, BEGIN)


def arrived(made: WayStream, n: int) -> bytes:
    """What a gateway makes of message n of gRPC or QUIC."""
    account, arrival = Account("alice"), Arrival(made.way.encode(), int(BEGIN.timestamp() * 1000))
    if made.way == "grpc":
        _, (record,) = events(account, EventBatch(batch_id=1, events=[made.event(n)]).SerializeToString(), arrival)
    else:
        _, (record,) = metrics(account, MetricBatch(batch_id=1, metrics=[made.metric(n)]).SerializeToString(), arrival)
    assert isinstance(record, IngestRecord), record
    assert record.key == made.message(n).key
    return record.value


@pytest.mark.parametrize("way", WAYS)
def test_a_message_is_known_again(way: str) -> None:
    made = stream(way)
    for n in (0, 7, 1234):
        sent = made.message(n)
        payload = sent.payload if way in ("http", "tcp") else arrived(made, n)
        assert made.is_message(n, sent.key, payload)
        assert not made.is_message(n + 1, sent.key, payload)
        assert not made.is_message(n, b"bob/d1", payload)
        for foreign in (b"no JSON", b'{"temperature": 1.5}'):
            assert not made.is_message(n, b"alice/m3", foreign)
        altered = payload.replace(b'"n": ', b'"n": 1')
        assert not made.is_message(n, sent.key, altered)


def test_bad_ones_are_as_many_as_elsewhere_and_say_why() -> None:
    made = stream("http")
    bad = [n for n in range(100 * BAD_EVERY) if made.bad(n)]
    assert 60 < len(bad) < 140
    assert {made.message(n).reason for n in bad} == {"wrong_type"}
    assert all(set(made.fields(n)) <= {"n", "battery", "temperature"} for n in bad)
    assert made.message(bad[0]).payload.count(b"90.5") + made.message(bad[0]).payload.count(b"hot") == 1


def test_what_protobuf_says_is_what_the_json_says() -> None:
    made = stream("grpc")
    event, metric = made.event(77), stream("quic").metric(77)
    assert (event.user_id, event.device_id, event.sequence_id) == ("alice", "g7", 77)
    assert (metric.node_id, metric.sensor_id, metric.sequence_id, metric.value) == ("alice", "q7", 77, 77.0)
    assert event.time_us == metric.time_us == int(made.time(77).timestamp() * 1e6)
    assert json.loads(event.extra_json) == made.fields(77)


@pytest.mark.parametrize("way", WAYS)
def test_a_gateway_takes_all_of_it_bad_ones_too(way: str) -> None:
    """What is planted as bad is for the worker to find: a refusal would have no dead letter."""
    made = stream(way)
    bad = [n for n in range(30 * BAD_EVERY) if made.bad(n)]
    assert len(bad) > 5
    for n in [0, 1, *bad]:
        if way in ("grpc", "quic"):
            assert made.is_message(n, made.message(n).key, arrived(made, n))
            continue
        record = item(Account("alice"), made.message(n).payload, Arrival(way.encode(), int(BEGIN.timestamp() * 1000)))
        assert isinstance(record, IngestRecord), record
        assert (record.key, record.value) == (made.message(n).key, made.message(n).payload)
