"""Items in protobuf as records: the worker reads in each what the sender set, or the sender learns why not."""

import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.decode.decoder import DecodeLimits, Decoder, hashed_id
from app.core.model.records import Kind, Reading
from app.core.routing.publish_rules import PublishRules
from app.gateways import protobuf_records
from app.gateways.protobuf_batches import MalformedBatch
from app.gateways.protobuf_records import events, metrics
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import Arrival, Rejection
from app.ports import Account
from app.protobuf.events_pb2 import Event, EventBatch
from app.protobuf.metrics_pb2 import Metric, MetricBatch
from tests import DEFAULT
from tests.fuzzing import INPUTS, broken
from tests.unit.records import NOW_MS, Message, read

ALICE = Account("alice")
AT = Arrival(b"grpc", NOW_MS)
NOW_US = NOW_MS * 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEARS = DecodeLimits(time_future_max=1e12, time_past_max=1e12)
Item: TypeAlias = Event | Metric


def event(**fields: Any) -> Event:
    usual: dict[str, Any] = {"user_id": "alice", "device_id": "d1", "sequence_id": 7, "time_us": NOW_US}
    return Event(**usual | fields)


def metric(**fields: Any) -> Metric:
    usual: dict[str, Any] = {"node_id": "alice", "sensor_id": "s1", "value": 1.5, "time_us": NOW_US}
    return Metric(**usual | fields)


def outcomes(*items: Item, account: Account = ALICE, arrival: Arrival = AT) -> list[IngestRecord | Rejection]:
    """What items of one kind come to: the same the first time and when their devices are known."""
    protobuf_records._known.clear()
    found = [_outcomes(items, account, arrival) for _ in range(2)]
    assert found[0] == found[1]
    return found[0]


def _outcomes(items: tuple[Item, ...], account: Account, arrival: Arrival) -> list[IngestRecord | Rejection]:
    if isinstance(items[0], Event):
        number, found = events(account, EventBatch(batch_id=9, events=items).SerializeToString(), arrival)  # type: ignore[arg-type]
    else:
        number, found = metrics(account, MetricBatch(batch_id=9, metrics=items).SerializeToString(), arrival)  # type: ignore[arg-type]
    assert number == 9
    return list(found)


def record(item: Item, account: Account = ALICE, arrival: Arrival = AT) -> IngestRecord:
    (found,) = outcomes(item, account=account, arrival=arrival)
    assert isinstance(found, IngestRecord), found
    return found


def refused(item: Item, account: Account = ALICE) -> Rejection:
    (found,) = outcomes(item, account=account)
    assert isinstance(found, Rejection), found
    return found


def payload(item: Item) -> dict[str, Any]:
    """What the payload says, numbers exact; a name that stands twice is a fault of ours."""
    found: dict[str, Any] = strict(record(item).value)
    return found


def strict(text: bytes) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs), pairs
        return dict(pairs)

    return json.loads(text, parse_float=Decimal, parse_int=Decimal, object_pairs_hook=once)


def reading(found: IngestRecord) -> Reading:
    """What the worker reads in a record."""
    message = Message(found.value, found.headers, found.key, found.ingest_ms)
    made = read(message, decoder=Decoder(YEARS, DEFAULT))
    assert isinstance(made, Reading), made
    return made


def test_an_event_is_the_record_that_mqtt_would_have_made() -> None:
    found = record(event(temperature=21.5, battery=80))
    assert found.key == b"alice/d1"
    assert (found.kind, found.packet_id, found.ingest_ms) == (Kind.TELEMETRY, 0, NOW_MS)
    assert found.headers == [
        ("mqtt_topic", b"users/alice/devices/d1/telemetry"),
        ("kind", b"telemetry"),
        ("ingest_ms", b"%d" % NOW_MS),
        ("gateway", b"grpc"),
    ]
    assert found.value == b'{"sequence_id":7,"timestamp":1795230000.0,"temperature":21.5,"battery":80}'


def test_a_metric_is_the_record_that_mqtt_would_have_made() -> None:
    found = record(metric(sequence_id=3))
    assert found.key == b"alice"
    assert found.headers[0] == ("mqtt_topic", b"iot/alice/s1/telemetry")
    assert found.value == b'{"value":1.5,"timestamp":1795230000.0,"sequence_id":3}'


def test_what_is_zero_is_said_and_what_is_not_set_is_not() -> None:
    assert payload(event(sequence_id=0, temperature=0.0, battery=0)).keys() == {
        *("sequence_id", "timestamp", "temperature", "battery")
    }
    assert payload(event()).keys() == {"sequence_id", "timestamp"}
    assert payload(metric(value=0.0, sequence_id=0)) == {"value": 0, "timestamp": 1795230000, "sequence_id": 0}
    assert payload(metric(time_us=0)) == {"value": 1.5}
    assert payload(event(temperature=-0.0))["temperature"].is_signed()


def test_a_metric_without_time_and_number_is_that_of_its_arrival() -> None:
    found = record(metric(time_us=0))
    made = reading(found)
    assert (made.time, made.sequence_id) == (datetime.fromtimestamp(NOW_MS / 1000, UTC), hashed_id(found.value))


@pytest.mark.parametrize(
    ("item", "reason", "words"),
    [
        (Event(user_id="alice", device_id="d1", time_us=NOW_US), "missing_field", "sequence_id is missing"),
        (event(time_us=0), "missing_field", "time_us is missing"),
        (event(temperature=math.nan), "out_of_range", "temperature is NaN"),
        (event(temperature=-math.inf, battery=1), "out_of_range", "temperature is infinite"),
        (metric(value=math.inf), "out_of_range", "value is infinite"),
        (metric(value=math.nan, sequence_id=1), "out_of_range", "value is NaN"),
        (Metric(node_id="alice", sensor_id="s1", time_us=NOW_US), "missing_field", "value is missing"),
        (event(time_us=2**63 - 1), "bad_time", "no time in the years 1 to 9999"),
        (metric(time_us=-(2**63)), "bad_time", "no time in the years 1 to 9999"),
        (event(user_id="", temperature=1, battery=1), "bad_id", "no id"),
        (event(device_id="a/b"), "bad_id", "a/b"),
        (event(device_id=".."), "bad_id", "'..'"),
        (metric(sensor_id="#"), "bad_id", "'#'"),
        (event(device_id="a\0b"), "nul_character", "U+0000"),
        (event(device_id="x" * 3000), "key_too_long", "3005 bytes"),
        (event(user_id="bob"), "not_allowed", "alice may not publish to users/bob/devices/d1/telemetry"),
        (metric(node_id="bob"), "not_allowed", "iot/bob/s1/telemetry"),
        (event(extra_json=b"{"), "bad_json", "extra_json: "),
        (event(extra_json=b"[1]"), "not_an_object", "extra_json: payload is [1]"),
        (event(extra_json=b'{"a":NaN}'), "bad_json", "NaN at byte 5 is not JSON"),
        (event(extra_json=b'{"a":1}{'), "bad_json", "extra_json: "),
        (event(extra_json=b'{"a":"\xff"}'), "bad_encoding", "byte 6 (0xff) is not UTF-8"),
        (event(extra_json=b'{"a":"\\u0000"}'), "nul_character", "\\u0000"),
        (event(extra_json=b'{"a":' + b"[" * 33 + b"]" * 33 + b"}"), "too_deep", "32 levels"),
        (event(extra_json=b'{"a":' * 9000), "too_deep", "32 levels"),
        (event(extra_json=b'{"sequence_id":8}'), "repeated_field", "extra_json has sequence_id"),
        (event(extra_json=b'{"timestamp":null}'), "repeated_field", "extra_json has timestamp"),
        (event(temperature=0.0, extra_json=b'{"temperature":2}'), "repeated_field", "extra_json has temperature"),
        (event(extra_json=b'{"device_id":"d2"}'), "repeated_field", "extra_json has device_id"),
        (metric(extra_json=b'{"value":2}'), "repeated_field", "extra_json has value"),
        (metric(extra_json=b'{"node_id":"bob"}'), "repeated_field", "extra_json has node_id"),
        (event(extra_json=b'{"a":"' + b"x" * (1 << 20) + b'"}'), "payload_too_large", "at most 1048576 are taken"),
    ],
)
def test_an_item_is_refused_alone_and_in_words(item: Item, reason: str, words: str) -> None:
    good: Item = event(device_id="good") if isinstance(item, Event) else metric(sensor_id="good")
    before, found, after = outcomes(good, item, good)
    assert isinstance(before, IngestRecord)
    assert before == after
    assert isinstance(found, Rejection), found
    assert found.reason == reason
    assert words in found.error
    assert found.error.isprintable()
    assert len(found.error) < 400


def test_a_field_that_is_not_set_may_be_in_extra_json() -> None:
    assert payload(event(extra_json=b'{"temperature":"hot"}'))["temperature"] == "hot"
    wide = Metric(node_id="alice", sensor_id="s1", time_us=NOW_US, extra_json=b'{"value":"open","sequence_id":5}')
    assert payload(wide) == {"value": "open", "sequence_id": 5, "timestamp": 1795230000}
    bare = Metric(node_id="alice", sensor_id="s1", extra_json=b' { "timestamp" : 1795230000.25 } ')
    assert record(bare).value == b'{"timestamp" : 1795230000.25 }'


@pytest.mark.parametrize("extra", [b"{}", b" {\n} ", b"\t{ }\r\n"])
def test_an_empty_extra_json_adds_nothing(extra: bytes) -> None:
    assert record(event(extra_json=extra)).value == record(event()).value
    empty = Metric(node_id="alice", sensor_id="s1", extra_json=extra)
    assert record(empty).value == b"{}"


def test_extra_json_is_kept_digit_by_digit() -> None:
    extra = b'{"a":1.10, "big":123456789012345678901234567890,"n":{"x":[1e2,-0.0]},"\xc3\xa9":"\\u00e9\\\\"}'
    assert record(event(extra_json=extra)).value.endswith(b"," + extra[1:])
    assert reading(record(event(extra_json=extra))).extra_json.startswith('{"a":1.10,"big":1234567890123456789012345')


def test_a_trace_context_in_extra_json_is_that_of_the_record() -> None:
    context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    extra = json.dumps({"traceparent": context}).encode()
    assert record(event(extra_json=extra)).headers[-1] == ("traceparent", context.encode())
    of_the_call = Arrival(b"grpc", NOW_MS, context.replace("b7", "c7").encode())
    assert record(event(extra_json=extra), arrival=of_the_call).headers[-1][1] == of_the_call.traceparent
    assert len(record(event(extra_json=extra), arrival=of_the_call).headers) == 5


_EXTRAS = [
    b'{"unit":"C"}',
    b' { "unit" : "C" } ',
    b"{}",
    b"",
    b'{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}',
    b'{"value":3,"temperature":3}',  # which an item may say itself
    b'{"unit":',
    b'{"unit":"\\u0000"}',
]


@pytest.mark.parametrize("extra", _EXTRAS)
def test_an_extra_json_that_many_have_is_that_of_each_alone(extra: bytes) -> None:
    metrics_: list[Item] = [
        metric(extra_json=extra),
        metric(extra_json=extra, value=2.5, sequence_id=4),
        Metric(node_id="alice", sensor_id="s1", extra_json=extra),  # this metric says nothing else
        metric(extra_json=b'{"other":1}'),
        metric(extra_json=extra, value=0, sensor_id="s2"),
    ]
    events_: list[Item] = [
        event(extra_json=extra),
        event(extra_json=extra, temperature=21.5, battery=80),
        event(extra_json=b'{"other":1}', sequence_id=0),
        event(extra_json=extra, temperature=0, device_id="d2"),
    ]
    for items in (metrics_, events_):
        assert outcomes(*items, *items) == [one for item in items for one in outcomes(item)] * 2


def test_an_account_of_one_device_sends_of_no_other() -> None:
    bound = Account("alice", "d1")
    assert record(event(), bound).key == b"alice/d1"
    assert refused(event(device_id="d2"), bound).reason == "not_allowed"
    assert record(event(device_id="d2"), ALICE).key == b"alice/d2"


def test_a_right_that_is_taken_back_is_gone() -> None:
    """What is remembered of an account is of its rules: rules that are read anew are asked anew."""
    assert record(event()).key == b"alice/d1"
    nothing = Account("alice", rules=PublishRules([]))
    data = EventBatch(events=[event()]).SerializeToString()
    assert isinstance(events(nothing, data, AT)[1][0], Rejection)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf_records, "PREPARED", 100)
    monkeypatch.setattr(protobuf_records, "_remembered", 0)
    protobuf_records._known.clear()
    for number in range(30):
        items = [event(user_id=f"u{number}", device_id=f"d{one}") for one in range(40)]
        items += [event(user_id="nobody's", device_id=f"d{one}") for one in range(40)]
        found = events(Account(f"u{number}"), EventBatch(events=items).SerializeToString(), AT)[1]
        assert sum(isinstance(one, IngestRecord) for one in found) == 40
        assert sum(len(names) for users in protobuf_records._known.values() for names in users.values()) <= 100
    protobuf_records._known.clear()
    monkeypatch.setattr(protobuf_records, "_remembered", 0)
    events(ALICE, EventBatch(events=[event(), event(device_id="d2")] * 50).SerializeToString(), AT)
    assert protobuf_records._remembered == 2, "a device of a first batch counts once"
    protobuf_records._known.clear()
    long = event(device_id="x" * 300)
    assert record(long).key == b"alice/" + b"x" * 300
    assert not protobuf_records._known, "long names are not kept"


def test_a_batch_of_nothing_is_nothing() -> None:
    assert events(ALICE, b"", AT) == metrics(ALICE, b"", AT) == (0, [])


finite = st.floats(allow_nan=False, allow_infinity=False)
optional = st.one_of(st.none(), finite)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), finite, st.text(st.characters(exclude_categories=["Cs"]))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
int64 = st.integers(-(2**63), 2**63 - 1)
times = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)  # the years 1 to 9999
near = st.integers(NOW_US - 10**12, NOW_US + 10**12)


@given(
    sequence=int64,
    us=st.one_of(times.filter(bool), near),
    temperature=optional,
    battery=st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
    extra=st.dictionaries(st.sampled_from("abcd"), json_values, max_size=3),
)
def test_the_worker_reads_what_was_set(
    sequence: int, us: int, temperature: float | None, battery: int | None, extra: dict[str, Any]
) -> None:
    text = json.dumps(extra)
    item = event(
        sequence_id=sequence,
        time_us=us,
        temperature=temperature,
        battery=battery,
        extra_json=text.encode() if extra else b"",
    )
    (found,) = outcomes(item)
    if "\\u0000" in text:  # refused, or within a text that only looks so
        assert isinstance(found, IngestRecord) or found.reason == "nul_character"
        return
    if isinstance(found, Rejection):  # numbers that no column of numeric has
        assert found.reason == "out_of_range"
        assert extra
        return
    try:
        in_range = abs(EPOCH + timedelta(microseconds=us) - datetime.fromtimestamp(NOW_MS / 1000, UTC)).days < 300 * 365
    except OverflowError:
        in_range = False
    if not in_range or any(isinstance(one, float) and abs(one) > 1e100 for one in _leaves(extra)):
        return  # too old for any worker, or for it to decide
    made = reading(found)
    assert made.time == EPOCH + timedelta(microseconds=us)
    assert (made.user_id, made.device_id, made.sequence_id) == ("alice", "d1", sequence)
    assert (made.temperature, made.battery) == (temperature, battery)
    assert json.loads(made.extra_json) == json.loads(text)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in _leaves(one)]
    if isinstance(value, list):
        return [leaf for one in value for leaf in _leaves(one)]
    return [value]


@given(value=optional, us=near, sequence=st.one_of(st.none(), int64))
def test_the_worker_reads_a_metric_as_it_was_set(value: float | None, us: int, sequence: int | None) -> None:
    item = Metric(node_id="alice", sensor_id="s", value=value, time_us=us, sequence_id=sequence)
    (found,) = outcomes(item)
    if value is None:
        assert isinstance(found, Rejection)
        return
    assert isinstance(found, IngestRecord)
    made = reading(found)
    assert made.time == EPOCH + timedelta(microseconds=us)
    assert made.sequence_id == (hashed_id(found.value) if sequence is None else sequence)
    assert json.loads(bytes(made.extra["value"])) == value


EXTRAS = (b"", b"{}", b'{"a":1.10}', b'{"value":"open"}', b'{"a":{"b":["\xc3\xa9",null]}}')
FULL = {"temperature": 21.5, "battery": 80}
SEEDS = [
    *[EventBatch(batch_id=1, events=[event(extra_json=extra, **FULL), event()]) for extra in EXTRAS],
    *[MetricBatch(batch_id=2, metrics=[metric(sequence_id=5), metric(extra_json=extra)]) for extra in EXTRAS],
    EventBatch(batch_id=2**64 - 1, events=[event(device_id=f"d{n}") for n in range(20)]),
]
TOKENS = [
    *[b"\x00", b"\x08\x01", b"\x12\x00", b"\x12\x02\x08\x01", b"\x12\xff\xff\xff\xff\x0f", b"\x0a", b"\x12", b"\x1a"],
    *[b"\xff" * 9 + b"\x01", b"\xff" * 10, b"\x80\x80\x00", b"\x0b", b"\x0c", b"\x0f", b"\xa0\x06\x01", b"\x62\x00"],
    *[b"\x19\x00\x00\x00\x00\x00\x00\xf8\x7f", b"\x29\x00\x00\x00\x00\x00\x00\xf0\xff", b"\x29", b"\x20\x80\x80\x08"],
    *[b"alice", b"bob", b"d1", b"s1", b"../", b"#", b"\0", b"\xff\xfe", b"\xc3\xa9", b"\xed\xa0\x80", b"\x18"],
    *[b"{", b"}", b'{"a":', b"NaN", b"null", b'"sequence_id":5,', b"\\u0000", b"\\ud800", b"1e400", b"[" * 40],
]


@pytest.mark.fuzz
def test_whatever_bytes_come_each_item_is_a_record_or_has_its_reason() -> None:
    decoder = Decoder(YEARS, DEFAULT)
    taken = refusals = malformed = 0
    seeds = [seed.SerializeToString() for seed in SEEDS]
    for number, data in enumerate(broken(seeds, TOKENS, INPUTS, 13)):
        read_batch, kind, way = (events, EventBatch, "events") if number % 2 else (metrics, MetricBatch, "metrics")
        try:
            _, found = read_batch(ALICE, data, AT, 100)
        except MalformedBatch:
            malformed += 1
            continue
        assert len(found) == len(getattr(kind.FromString(data), way))
        for one in found:
            if isinstance(one, Rejection):
                refusals += 1
                assert one.error.isprintable(), one
                assert len(one.error) < 400
                continue
            taken += 1
            assert one.headers[0][1].split(b"/")[1] == b"alice"
            assert isinstance(json.loads(one.value), dict)
            read(Message(one.value, one.headers, one.key), decoder=decoder)  # raises nothing
    assert min(taken, refusals, malformed) > INPUTS / 50, (taken, refusals, malformed)
