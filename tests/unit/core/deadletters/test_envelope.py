"""Dead letters: the envelope as published, and the original in it byte for byte."""

import json
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st

from app.core.deadletters.envelope import OWN_HEADERS, DeadLetter, Headers, from_record, to_record
from app.core.model.arrival import arrived_ms
from app.core.model.records import Reason, Rejected, Stage
from tests.unit.records import NOW_MS, TOPIC, Message

AT = "2026-11-21T03:00:00.000Z"
CAME = ("ingest_ms", b"%d" % NOW_MS)
ERROR = b"battery is 90.5; send a 32-bit integer (validate: wrong_type)"
ANY_HEADERS = st.lists(st.tuples(st.text(max_size=12), st.binary(max_size=30)), max_size=6)


def rejected(record: Message) -> Rejected:
    return Rejected(record, Reason.WRONG_TYPE, Stage.VALIDATE, "battery is 90.5; send a 32-bit integer")


def added(offset: int) -> list[tuple[str, bytes]]:
    """What a dead letter has beside the original's headers."""
    return [
        ("reason", b"wrong_type"),
        ("x-original-topic", b"iot-stream"),
        ("x-original-partition", b"3"),
        ("x-original-offset", b"%d" % offset),
        ("x-original-timestamp", b"%d" % NOW_MS),
        ("x-exception-message", ERROR),
    ]


def test_a_message_that_never_was_a_record_has_no_place() -> None:
    _, _, headers = to_record(rejected(Message()), "iot-stream", -1, AT)
    names = [name for name, _ in headers if name in OWN_HEADERS]
    assert names == ["reason", "x-original-topic", "x-original-timestamp", "x-exception-message"]


def back(record: Message) -> DeadLetter:
    _, value, headers = to_record(rejected(record), "iot-stream", 3, AT)
    found = from_record(value, headers)
    assert found is not None
    return found


def test_the_envelope_is_the_published_one() -> None:
    record = Message(b'{"battery":90.5}', offset=42)
    key, value, headers = to_record(rejected(record), "iot-stream", 3, AT)
    assert key == b"u1/d1"
    envelope = json.loads(value)
    assert list(envelope)[:4] == ["original_topic", "error", "timestamp", "payload_base64"]
    assert envelope == {
        "original_topic": TOPIC,
        "error": "battery is 90.5; send a 32-bit integer (validate: wrong_type)",
        "timestamp": AT,
        "payload_base64": b64encode(b'{"battery":90.5}').decode(),
        "reason": "wrong_type",
        "stage": "validate",
        "source": {"topic": "iot-stream", "partition": 3, "offset": 42, "key": "u1/d1"},
        "replay_count": 0,
    }
    assert headers == [*record.headers, CAME, *added(42)]


def test_without_an_mqtt_topic_it_is_the_kafka_topic() -> None:
    assert back(Message(headers=())).original_topic == "iot-stream"


def test_an_earlier_reason_is_replaced_and_replays_are_counted() -> None:
    earlier = [(name, b"1") for name in sorted(OWN_HEADERS)]
    record = Message(headers=[*earlier, ("replay_count", b"2"), ("x", b"\xff")])
    _, value, headers = to_record(rejected(record), "iot-stream", 3, AT)
    assert headers == [("replay_count", b"2"), ("x", b"\xff"), CAME, *added(42)]
    assert json.loads(value)["replay_count"] == 2


def test_a_replay_knows_when_the_original_came_in() -> None:
    """A replay gets another timestamp, and the limits on time are those of the first delivery."""
    hour = 3_600_000
    for headers, timestamp, came in [
        ([("ingest_ms", b"%d" % (NOW_MS - hour))], NOW_MS, NOW_MS - hour),
        ([], NOW_MS - hour, NOW_MS - hour),
        ([], NOW_MS * 1000, NOW_MS),
        ([("ingest_ms", b"%d" % (NOW_MS + 48 * hour))], NOW_MS * 1000, NOW_MS),
        ([("ingest_ms", b"soon"), ("ingest_ms", b"%d" % (NOW_MS - hour))], NOW_MS, NOW_MS - hour),
    ]:
        replay = Message(headers=back(Message(headers=headers, timestamp=timestamp)).headers, timestamp=NOW_MS + hour)
        for later in (0, 100 * hour):
            assert arrived_ms(replay, NOW_MS + later) == came
        assert [one for one in replay.headers if one in headers] == headers
        assert back(replay).headers == replay.headers


def test_a_key_that_is_no_text_is_base64() -> None:
    record = Message(key=b"\xff\x00")
    _, value, headers = to_record(rejected(record), "iot-stream", 3, AT)
    source = json.loads(value)["source"]
    assert (source["key"], source["key_base64"]) == (None, "/wA=")
    found = from_record(value, headers)
    assert found is not None
    assert found.key == b"\xff\x00"


def test_a_tombstone_is_not_an_empty_payload() -> None:
    assert back(Message(None)).tombstone is True
    assert back(Message(b"")).tombstone is False
    assert back(Message(None)).payload == back(Message(b"")).payload == b""


@given(
    st.none() | st.binary(max_size=200),
    st.none() | st.binary(max_size=30) | st.text(max_size=10).map(str.encode),
    ANY_HEADERS.filter(lambda headers: all(name not in OWN_HEADERS for name, _ in headers)),
    st.integers(0, 2**63 - 1),
)
def test_the_original_comes_back_byte_for_byte(
    payload: bytes | None, key: bytes | None, headers: Headers, offset: int
) -> None:
    found = back(Message(payload, headers, key, offset=offset))
    assert (None if found.tombstone else found.payload) == payload
    assert found.key == key
    assert found.headers == [*headers, CAME]
    assert (found.source_topic, found.source_partition, found.source_offset) == ("iot-stream", 3, offset)
    assert found.reason == Reason.WRONG_TYPE


@given(st.none() | st.binary(max_size=200), ANY_HEADERS)
def test_what_is_no_dead_letter_is_none(value: bytes | None, headers: Headers) -> None:
    assert from_record(value, headers) is None


def test_a_broken_dead_letter_is_none() -> None:
    _, value, headers = to_record(rejected(Message()), "iot-stream", 3, AT)
    good = json.loads(value)
    for broken in (
        {**good, "payload_base64": "a"},
        {**good, "payload_base64": "*" + good["payload_base64"]},
        {**good, "source": {**good["source"], "key": None, "key_base64": "!"}},
        {**good, "source": None},
        {name: good[name] for name in good if name != "reason"},
    ):
        assert from_record(json.dumps(broken).encode(), headers) is None
    assert from_record(b'{"original_topic":' + b"[" * 100_000, headers) is None
    assert from_record(value, headers) is not None
