"""Lines of JSON as items: what the gateway makes of an item says what the line said, digit by digit."""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.client.lines.json_items import Owner, item_of
from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.model.fault import Fault
from app.core.model.records import Reading, Rejected
from app.gateways.protobuf_records import events, metrics
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import Arrival, Rejection, item
from app.ports import Account
from app.protobuf.events_pb2 import Event, EventBatch
from app.protobuf.metrics_pb2 import Metric, MetricBatch
from tests import DEFAULT
from tests.fuzzing import INPUTS, broken
from tests.unit.fuzz import TOKENS
from tests.unit.records import NOW_MS, Message, read

NOBODY, ALICE = Owner(), Account("alice")
AT = Arrival(b"grpc", NOW_MS)
EVENT = b'"user_id":"alice","device_id":"d1","sequence_id":7,"timestamp":"2026-11-21T02:00:00.123456Z"'


def event(line: bytes, owner: Owner = NOBODY) -> Event:
    found = item_of(line, owner)
    assert isinstance(found, Event), found
    return found


def metric(line: bytes, owner: Owner = NOBODY) -> Metric:
    found = item_of(line, owner)
    assert isinstance(found, Metric), found
    return found


def test_a_line_of_a_device_is_an_event() -> None:
    found = event(b"{" + EVENT + b',"temperature":21.50,"battery":80,"humidity":41.20}')
    assert (found.user_id, found.device_id, found.sequence_id) == ("alice", "d1", 7)
    assert found.time_us == 1_795_226_400_123_456
    assert (found.temperature, found.battery, found.extra_json) == (21.5, 80, b'{"humidity":41.20}')


def test_a_line_of_a_sensor_is_a_metric() -> None:
    found = metric(b'{"node_id":"n","sensor_id":"s","value":1e2,"time":1795226400,"unit":"C"}')
    assert (found.node_id, found.sensor_id, found.value) == ("n", "s", 100.0)
    assert (found.time_us, found.HasField("sequence_id")) == (1_795_226_400_000_000, False)
    assert found.extra_json == b'{"unit":"C"}'
    assert metric(b'{"sensor_id":"s","value":1}', Owner("n")).node_id == "n"


def test_ids_that_a_line_does_not_name_are_given() -> None:
    owner = Owner("bob", "d9")
    assert (event(b'{"sequence_id":1}', owner).user_id, event(b"{}", owner).device_id) == ("bob", "d9")
    assert event(b'{"user_id":"alice"}', owner).user_id == "alice"
    assert event(b'{"user_id":5,"device_id":"d"}').user_id == "5"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "truncated"),
        (b"[1]", "send a JSON object"),
        (b'{"a":NaN}', "NaN"),
        (b"{}", "user_id is missing"),
        (b'{"user_id":"u"}', "device_id is missing"),
        (b'{"node_id":"n"}', "sensor_id is missing"),
        (b'{"user_id":[],"device_id":"d"}', "user_id is []"),
        (b'{"user_id":"u","device_id":"d","timestamp":"soon"}', "timestamp"),
        (b'{"user_id":"u","device_id":"d","sequence_id":"7"}', "sequence_id"),
        (b'{"user_id":"u","device_id":"d","sequence_id":9223372036854775808}', "beyond"),
        (b'{"node_id":"n","sensor_id":"s","user_id":"m","value":1}', "user_id is m"),
        (b'{"user_id":"u","device_id":"\\u0000"}', "u0000"),
        (b'{"user_id":"\xff"}', "UTF-8"),
    ],
)
def test_a_line_that_is_no_item_says_why(line: bytes, words: str) -> None:
    found = item_of(line, NOBODY)
    assert isinstance(found, Fault)
    assert words in found.detail


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        (b"0.1", 0.1),
        (b"-0.0", -0.0),
        (b"1.10", 1.1),
        (b"0.1234567890123456789", None),
        (b"9007199254740993", None),
        (b"1e400", None),
        (b"1" * 500, None),
        (b'"hot"', None),
        (b"true", None),
    ],
)
def test_a_number_goes_into_its_field_if_that_holds_it_exactly(number: bytes, kept: float | None) -> None:
    found = event(b"{" + EVENT + b',"temperature":' + number + b"}")
    assert found.HasField("temperature") == (kept is not None)
    assert found.extra_json == (b"" if kept is not None else b'{"temperature":' + number + b"}")
    if kept is not None:
        assert str(found.temperature) == str(kept)


def test_an_integer_goes_into_its_field_if_that_holds_it() -> None:
    assert event(b"{" + EVENT + b',"battery":-2147483648}').battery == -(2**31)
    for other in (b"2147483648", b"90.0", b"1e1", b"null", b'"90"', b"1" * 5000):
        found = event(b"{" + EVENT + b',"battery":' + other + b"}")
        assert not found.HasField("battery")
        assert found.extra_json == b'{"battery":' + other + b"}"


def test_null_says_nothing() -> None:
    found = event(b'{"user_id":"u","device_id":"d","timestamp":null,"time":5,"sequence_id":null}')
    assert (found.time_us, found.HasField("sequence_id"), found.extra_json) == (5_000_000, False, b"")


def same(line: bytes) -> None:
    """The worker reads the same in a line that was pushed as in one that HTTP took."""
    found = item_of(line, Owner("alice", "d1"))
    direct = item(ALICE, line, AT)
    if isinstance(found, Fault):
        assert isinstance(direct, Rejection) or rejected(direct), (line, found)
        return
    batch: Sequence[IngestRecord | Rejection]
    if isinstance(found, Event):
        _, batch = events(ALICE, EventBatch(events=[found]).SerializeToString(), AT)
    else:
        _, batch = metrics(ALICE, MetricBatch(metrics=[found]).SerializeToString(), AT)
    (pushed,) = batch
    if isinstance(pushed, Rejection):
        assert isinstance(direct, Rejection) or rejected(direct) or pushed.reason == "missing_field", (line, pushed)
        return
    mine = reading(pushed)
    if isinstance(mine, Rejected):
        assert isinstance(direct, Rejection) or rejected(direct), (line, mine)
        return
    assert isinstance(direct, IngestRecord), (line, direct)
    other = reading(direct)
    assert isinstance(other, Reading), (line, other)
    assert (mine.time, mine.user_id, mine.device_id) == (other.time, other.user_id, other.device_id)
    assert (mine.temperature, mine.battery) == (other.temperature, other.battery)
    ids = {"node_id", "sensor_id"}  # a pushed metric says them in its topic alone
    assert exact(mine.extra_json, ids) == exact(other.extra_json, ids)


def exact(text: str, without: set[str]) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    return {name: value for name, value in fields.items() if name not in without}


def reading(record: IngestRecord) -> Reading | Rejected:
    limits = DecodeLimits(time_future_max=1e12, time_past_max=1e12)
    message = Message(record.value, record.headers, record.key, record.ingest_ms)
    return read(message, decoder=Decoder(limits, DEFAULT))


def rejected(record: IngestRecord | Rejection) -> bool:
    return isinstance(record, Rejection) or isinstance(reading(record), Rejected)


numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@given(
    fields=st.dictionaries(
        st.sampled_from(["temperature", "battery", "value", "a", "b", "time"]),
        st.one_of(numbers, st.booleans(), st.none(), st.text(st.characters(codec="ascii"), max_size=5)),
        max_size=4,
    ),
    node=st.booleans(),
)
def test_what_is_pushed_is_what_was_in_the_line(fields: dict[str, Any], node: bool) -> None:
    ids = {"node_id": "alice", "sensor_id": "s"} if node else {"user_id": "alice", "device_id": "d1"}
    same(json.dumps({**ids, "sequence_id": 3, "timestamp": 1795226400.25} | fields).encode())


SEEDS = [
    b"{" + EVENT + b',"temperature":21.50,"battery":80,"humidity":41.20}',
    b'{"node_id":"alice","sensor_id":"s","value":1.5,"time":1795226400,"unit":"C"}',
    b'{"sequence_id":1,"timestamp":1795226400123,"engine":{"oil":[1,2,{"t":90.5}]},"x":"\xc3\xa9"}',
]


@pytest.mark.fuzz
def test_whatever_a_line_is_it_is_an_item_or_has_its_reason() -> None:
    outcomes = {Event: 0, Metric: 0, Fault: 0}
    for line in broken(SEEDS, TOKENS, INPUTS, 7):
        found = item_of(line, Owner("alice"))
        outcomes[type(found)] += 1
        if isinstance(found, Fault):
            assert found.detail.isprintable()
        else:
            found.SerializeToString()
    assert min(outcomes.values()) > INPUTS / 100, outcomes
