"""A reading as a message of proto/, from which the gateway decodes an equal reading."""

import json
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.model.records import Kind, Reading
from app.core.routing.address import Address
from app.core.schema.column_types import Fields
from app.core.schema.schema import schema_of
from app.gateways.protobuf_records import events, metrics
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import Arrival
from app.ports import Account
from app.protobuf.events_pb2 import Event, EventBatch
from app.protobuf.metrics_pb2 import Metric, MetricBatch
from app.sinks.grpc_push.messages import event_maker, metric_maker
from app.sinks.record import SinkRecord
from tests import DEFAULT
from tests.receivers.readings import START, pushed
from tests.unit.records import NOW_MS, Message

event, metric = event_maker(DEFAULT), metric_maker(DEFAULT)
US = 1_796_032_800_000_000  # START


def test_an_event_says_what_the_reading_says() -> None:
    assert int(START.timestamp() * 1_000_000) == US
    made = event(pushed(7, "truck-1", user="alice", fuel=Raw(b"41.20")))
    assert made == Event(
        user_id="alice",
        device_id="truck-1",
        sequence_id=7,
        time_us=US + 7_000_000,
        temperature=21.5,
        battery=80,
        extra_json=b'{"fuel":41.20}',
    )


def test_what_a_reading_lacks_is_not_set_and_zero_is() -> None:
    made = event(pushed(0, temperature=None, battery=0))
    assert not made.HasField("temperature")
    assert made.HasField("battery")
    assert made.HasField("sequence_id")
    assert made.extra_json == b""


def test_a_metric_says_what_the_reading_of_a_node_says() -> None:
    made = metric(pushed(1, "press", user="plant", node=True, temperature=None, battery=None, value=4.25, unit="bar"))
    assert made == Metric(
        node_id="plant",
        sensor_id="press",
        value=4.25,
        time_us=US + 1_000_000,
        sequence_id=1,
        extra_json=b'{"unit":"bar"}',
    )


@pytest.mark.parametrize(
    ("value", "number", "extra"),
    [
        (b"4.25", 4.25, b""),
        (b"0", 0.0, b""),
        (b"1e3", 1000.0, b""),
        (b"0.1000000000000000", 0.1, b""),
        (b"0.10000000000000000001", None, b'{"value":0.10000000000000000001}'),
        (b"12345678901234567890123", None, b'{"value":12345678901234567890123}'),
        (b"1e999", None, b'{"value":1e999}'),
        (b"1e-999", None, b'{"value":1e-999}'),
        (b'"on"', None, b'{"value":"on"}'),
        (b'"1"', None, b'{"value":"1"}'),
        (b"true", None, b'{"value":true}'),
        (b"null", None, b'{"value":null}'),
        (b"[1]", None, b'{"value":[1]}'),
    ],
)
def test_a_value_is_a_double_where_that_says_the_same(value: bytes, number: float | None, extra: bytes) -> None:
    made = metric(pushed(1, node=True, temperature=None, battery=None, value=Raw(value)))
    assert (made.value if made.HasField("value") else None) == number
    assert made.extra_json == extra


def test_a_metric_without_any_value_has_an_empty_object() -> None:
    made = metric(pushed(1, node=True, temperature=None, battery=None))
    assert not made.HasField("value")
    assert made.extra_json == b"{}"


def test_columns_that_no_message_has_go_by_their_fields() -> None:
    reading = _schema.reading(START, "u", "d", 1, {"x": Raw(b"1")}, '{"x":1}', 2**40, Decimal("9.90"), 1.5, None)
    made = event_maker(_schema)(msgspec.structs.replace(pushed(1), reading=reading))
    assert made.temperature == 1.5
    assert not made.HasField("battery")
    assert json.loads(made.extra_json, parse_float=str) == {"x": 1, "battery": 2**40, "cost": "9.90"}
    node = metric_maker(_schema)(msgspec.structs.replace(pushed(1, node=True), reading=reading))
    assert json.loads(node.extra_json, parse_float=str)["temperature"] == "1.5"


class _Own(Struct):
    battery: int | None = None
    price: Annotated[Decimal | None, Fields("cost")] = None
    temperature: Annotated[float | None, Fields("temperature", "temp")] = None
    label: str | None = None


_schema = schema_of(_Own)

FIELDS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
NAMES = st.sampled_from(["temperature", "battery", "value", "timestamp", "node_id", "sensor_id", "x"]) | st.text(
    max_size=4
)


@given(payload=st.dictionaries(NAMES, FIELDS, max_size=6), node=st.booleans(), micros=st.integers(0, 999_999))
def test_a_gateway_makes_the_same_reading_of_it(payload: dict[str, Any], node: bool, micros: int) -> None:
    text = json.dumps({**payload, "sequence_id": 5, "time": NOW_MS / 1000 + micros / 1e6}).encode()
    address = Address(Kind.TELEMETRY, "u", "d", "iot/u/d/telemetry" if node else "", node, "iot/u" if node else "")
    read = _read(text, address)
    if not isinstance(read, Reading):
        return
    record = SinkRecord("t", 0, 1, NOW_MS, Kind.TELEMETRY, "u", "d", "iot/u/d" if node else "u/d", read, text, [], None)
    arrival = Arrival(b"grpc", NOW_MS, None)
    if node:
        _, found = metrics(Account("u"), MetricBatch(metrics=[metric(record)]).SerializeToString(), arrival)
    else:
        _, found = events(Account("u"), EventBatch(events=[event(record)]).SerializeToString(), arrival)
    (one,) = found
    assert isinstance(one, IngestRecord), one
    again = _read(one.value, address)
    assert isinstance(again, Reading), again
    assert DEFAULT.row(again)[:-1] == DEFAULT.row(read)[:-1]
    hidden = {"timestamp", *(("node_id", "sensor_id") if node else ())}
    assert _numbers(again, hidden) == _numbers(read, hidden)


def _read(text: bytes, address: Address) -> object:
    return Decoder(DecodeLimits(), DEFAULT).decode(Message(text, (), b"u/d"), address, NOW_MS)


def _numbers(reading: Reading, hidden: set[str]) -> dict[str, Any]:
    """The fields as exact numbers, as the text of a double may differ."""
    return {
        name: json.loads(bytes(raw), parse_float=Decimal, parse_int=Decimal)
        for name, raw in reading.extra.items()
        if name not in hidden
    }
