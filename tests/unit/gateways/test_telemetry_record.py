"""A telemetry message at a gateway: the record is that of MQTT, and what is refused is what the worker refuses."""

import json
from collections import Counter

import pytest

from app.core.model.records import Kind, Reading, Reason, Rejected
from app.core.routing.publish_rules import OF_DEVICES, PublishRules
from app.gateways.mqtt.packets import Publish
from app.gateways.mqtt.records import to_record
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import (
    NOT_ALLOWED,
    Arrival,
    Rejection,
    item,
    items,
    node_telemetry,
    sealed,
    telemetry,
)
from app.ports import Account
from tests.fuzzing import INPUTS
from tests.unit.fuzz import payloads
from tests.unit.records import GOOD, NOW_MS, Message, read

U1 = Account("u1")
ARRIVAL = Arrival(b"http", NOW_MS)
PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
# What only the worker knows: the columns of the schema, and how old or new a reading may be.
WORKERS_OWN = {Reason.WRONG_TYPE, Reason.OUT_OF_RANGE, Reason.TIME_IN_FUTURE, Reason.TIME_TOO_OLD}


def made(found: IngestRecord | Rejection) -> IngestRecord:
    assert isinstance(found, IngestRecord), found
    return found


def reason(found: IngestRecord | Rejection) -> str:
    assert isinstance(found, Rejection), found
    assert found.error.isprintable()
    assert len(found.error) < 500
    return found.reason


@pytest.mark.parametrize("topic", ["users/u1/devices/d1/telemetry", "iot/u1/d1/telemetry"])
def test_the_record_is_that_of_the_message_over_mqtt(topic: str) -> None:
    over_mqtt = to_record(Publish(topic, GOOD, 0, []), NOW_MS)
    send = telemetry if topic.startswith("users") else node_telemetry
    record = made(send(U1, "u1", "d1", GOOD, ARRIVAL))
    assert (record.kind, record.key, record.value) == (Kind.TELEMETRY, over_mqtt.key, GOOD)
    assert record.headers == [*over_mqtt.headers, ("gateway", b"http")]
    assert (record.ingest_ms, record.packet_id) == (NOW_MS, 0)


def test_an_item_names_its_device_itself_and_stays_byte_for_byte() -> None:
    record = made(item(U1, GOOD, ARRIVAL))
    assert (record.key, record.value) == (b"u1/d1", GOOD)
    line = b'{ "node_id":"u1", "sensor_id" : "s", "value": 1.50 }'
    record = made(item(U1, line, ARRIVAL))
    assert (record.key, record.value) == (b"u1", line)
    assert record.headers[0] == ("mqtt_topic", b"iot/u1/s/telemetry")


def test_what_an_item_does_not_name_is_the_account_s() -> None:
    line = b'{"sequence_id":1,"time":1795226400}'
    assert reason(item(U1, line, ARRIVAL)) == Reason.MISSING_FIELD
    bound = Account("u1", "truck", rules=OF_DEVICES)
    assert made(item(bound, line, ARRIVAL)).key == b"u1/truck"
    assert made(item(U1, b'{"device_id":"d9",' + line[1:], ARRIVAL)).key == b"u1/d9"
    assert made(item(U1, b'{"device_id":7,' + line[1:], ARRIVAL)).key == b"u1/7", "as the worker takes it"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", Reason.BAD_JSON),
        (b"[]", Reason.NOT_AN_OBJECT),
        (b"5", Reason.NOT_AN_OBJECT),
        (b"{", Reason.BAD_JSON),
        (b'{"device_id":"d1","v":NaN}', Reason.BAD_JSON),
        (b'{"device_id":"\xff"}', Reason.BAD_ENCODING),
        (b'{"device_id":"d1"}', Reason.MISSING_FIELD),
        (b'{"device_id":"d1","sequence_id":1}', Reason.MISSING_FIELD),
        (b'{"device_id":"d1","sequence_id":"1","time":1795226400}', Reason.WRONG_TYPE),
        (b'{"device_id":"d1","sequence_id":9223372036854775808,"time":1795226400}', Reason.OUT_OF_RANGE),
        (b'{"device_id":"d1","sequence_id":1,"time":"yesterday"}', Reason.BAD_TIME),
        (b'{"device_id":true,"sequence_id":1,"time":1795226400}', Reason.WRONG_TYPE),
        (b'{"device_id":"../../d1","sequence_id":1,"time":1795226400}', Reason.BAD_ID),
        (b'{"device_id":"..","sequence_id":1,"time":1795226400}', Reason.BAD_ID),
        (b'{"device_id":"","sequence_id":1,"time":1795226400}', Reason.MISSING_FIELD),
        (b'{"device_id":"+","sequence_id":1,"time":1795226400}', Reason.BAD_ID),
        (b'{"device_id":"a\\u0007","sequence_id":1,"time":1795226400}', Reason.BAD_ID),
        (b'{"device_id":"a\\u0000","sequence_id":1,"time":1795226400}', Reason.NUL_CHARACTER),
        (b'{"device_id":"\\ud800","sequence_id":1,"time":1795226400}', Reason.LONE_SURROGATE),
        (b'{"device_id":"d1","sequence_id":1,"time":1795226400,"x":"\\ud800"}', Reason.LONE_SURROGATE),
        (b'{"device_id":"' + b"d" * 3000 + b'","sequence_id":1,"time":1795226400}', Reason.KEY_TOO_LONG),
        (b'{"user_id":"u2","device_id":"d1","sequence_id":1,"time":1795226400}', NOT_ALLOWED),
        (b'{"node_id":"u2","sensor_id":"d1"}', NOT_ALLOWED),
        (b'{"node_id":"u1"}', Reason.MISSING_FIELD),
        (b'{"device_id":"d1","sequence_id":1,"time":1795226400,"x":' + b"[" * 40 + b"]" * 40 + b"}", Reason.TOO_DEEP),
        (
            b'{"device_id":"d1","sequence_id":1,"time":1795226400,"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
            Reason.TOO_DEEP,
        ),
    ],
)
def test_a_bad_item_is_refused_with_its_reason(line: bytes, expected: str) -> None:
    assert reason(item(U1, line, ARRIVAL)) == expected


def test_an_account_speaks_for_its_own_devices_alone() -> None:
    assert reason(telemetry(U1, "u2", "d1", GOOD, ARRIVAL)) == NOT_ALLOWED
    assert reason(node_telemetry(U1, "u2", "d1", b"{}", ARRIVAL)) == NOT_ALLOWED
    assert reason(sealed(U1, "users", "u2", "d1", b"{}", ARRIVAL)) == NOT_ALLOWED
    assert reason(telemetry(Account("u1", "d2"), "u1", "d1", GOOD, ARRIVAL)) == NOT_ALLOWED
    assert reason(item(Account("u1", "d2", rules=OF_DEVICES), GOOD, ARRIVAL)) == NOT_ALLOWED
    nobody = Account("u1", rules=PublishRules([]))
    assert reason(telemetry(nobody, "u1", "d1", GOOD, ARRIVAL)) == NOT_ALLOWED
    anybody = Account("root", rules=PublishRules([], superuser=True))
    assert made(telemetry(anybody, "u1", "d1", GOOD, ARRIVAL)).key == b"u1/d1"


def test_ids_of_payload_and_path_agree() -> None:
    assert reason(telemetry(U1, "u1", "d2", GOOD, ARRIVAL)) == Reason.IDENTITY_MISMATCH
    assert reason(node_telemetry(U1, "u1", "d2", GOOD, ARRIVAL)) == Reason.IDENTITY_MISMATCH


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a+", "#", "a\0b", "\x7f", "￿", "d" * 3000, "\ud800"])
def test_ids_that_cannot_be_in_a_topic_are_refused_everywhere(name: str) -> None:
    for found in (
        telemetry(U1, "u1", name, GOOD, ARRIVAL),
        telemetry(Account(name), name, "d1", GOOD, ARRIVAL),
        node_telemetry(U1, "u1", name, b"{}", ARRIVAL),
        sealed(U1, "iot", "u1", name, b"{}", ARRIVAL),
    ):
        assert reason(found) in (Reason.BAD_ID, Reason.NUL_CHARACTER, Reason.KEY_TOO_LONG, Reason.LONE_SURROGATE)


def test_a_payload_is_as_large_as_it_may_be_and_no_larger() -> None:
    arrival = Arrival(b"tcp", NOW_MS, max_bytes=len(GOOD))
    assert made(item(U1, GOOD, arrival))
    assert made(telemetry(U1, "u1", "d1", GOOD, arrival))
    for found in (
        item(U1, GOOD + b" ", arrival),
        telemetry(U1, "u1", "d1", GOOD + b" ", arrival),
        sealed(U1, "users", "u1", "d1", GOOD + b" ", arrival),
    ):
        assert reason(found) == Reason.PAYLOAD_TOO_LARGE


def test_a_trace_is_the_request_s_or_the_payload_s() -> None:
    of_request = Arrival(b"http", NOW_MS, PARENT)
    assert made(telemetry(U1, "u1", "d1", GOOD, of_request)).headers[-1] == ("traceparent", PARENT)
    assert of_request.traceparent == PARENT
    inside = GOOD[:-1] + b',"traceparent":"' + PARENT + b'"}'
    assert made(item(U1, inside, ARRIVAL)).headers[-1] == ("traceparent", PARENT)
    for wrong in (b"", b"00-0-0-01", PARENT + b"x", b"\xff" * 55):
        arrival = Arrival(b"http", NOW_MS, wrong)
        assert arrival.traceparent is None
        assert made(telemetry(U1, "u1", "d1", GOOD, arrival)).headers[-1] == ("gateway", b"http")


@pytest.mark.fuzz
def test_the_worker_refuses_whatever_a_gateway_refuses_and_little_else() -> None:
    """On broken payloads: no good payload is refused, and nothing is let in that is no JSON of this device."""
    outcomes: Counter[str] = Counter()
    for payload in payloads(INPUTS, seed=20261130):
        found = telemetry(U1, "u1", "d1", payload, ARRIVAL)
        worker = read(Message(payload, [("mqtt_topic", b"users/u1/devices/d1/telemetry")], b"u1/d1"))
        if isinstance(found, Rejection):
            outcomes[reason(found)] += 1
            assert isinstance(worker, Rejected), (payload, found)
            continue
        outcomes["record"] += 1
        assert found.value == payload
        assert isinstance(worker, Reading) or worker.reason in WORKERS_OWN, (payload, worker)
    assert len(outcomes) > 8, outcomes
    assert outcomes["record"] > 500


@pytest.mark.fuzz
def test_an_item_of_any_bytes_is_a_record_or_refused() -> None:
    """Ids are the payload's: the worker, by the record's topic, agrees."""
    taken = 0
    for payload in payloads(INPUTS, seed=7):
        found = item(U1, payload, ARRIVAL)
        if isinstance(found, Rejection):
            reason(found)
            continue
        taken += 1
        worker = read(Message(found.value, found.headers, found.key))
        assert isinstance(worker, Reading) or worker.reason in WORKERS_OWN, (payload, worker)
    assert taken > 200


ACCOUNTS = [
    U1,
    Account("u1", "d1"),
    Account("u1", "d2", rules=OF_DEVICES),
    Account("u1", None, "d"),
    Account("u1", None, "x"),
    Account("u2"),
    Account("u1", rules=PublishRules([])),
    Account("root", rules=PublishRules([], superuser=True)),
]


@pytest.mark.parametrize("account", ACCOUNTS)
@pytest.mark.parametrize("parent", [None, PARENT])
def test_many_items_are_each_what_they_are_alone(account: Account, parent: bytes | None) -> None:
    arrival = Arrival(b"tcp", NOW_MS, parent, max_bytes=5000)
    lines = [*payloads(2000, seed=3), GOOD, GOOD[:-1] + b',"traceparent":"' + PARENT + b'"}', b"x" * 6000]
    lines += [b'{"node_id":"u1","sensor_id":"s"}', b'{"node_id":"u1","device_id":"d1","sequence_id":1,"time":1}']
    for _ in range(2):  # once devices are known, the quick way is taken
        assert items(account, lines, arrival) == [item(account, line, arrival) for line in lines]


def test_names_that_somebody_makes_up_cost_a_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.gateways import telemetry_record

    monkeypatch.setattr(telemetry_record, "PREPARED", 100)
    for number in range(1000):
        line = json.dumps({"device_id": f"d{number}", "sequence_id": 1, "time": 1795226400}).encode()
        made(item(U1, line, ARRIVAL))
        made(sealed(Account(f"u{number}"), "users", f"u{number}", "d1", b"{}", ARRIVAL))
        made(sealed(U1, "iot", "u1", f"{'x' * 300}{number}", b"{}", ARRIVAL))
    kept = (telemetry_record._of_users, telemetry_record._of_nodes)
    assert sum(len(devices) for owners in kept for devices in owners.values()) <= 101
    assert sum(len(owners) for owners in kept) <= 101
