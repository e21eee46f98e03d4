"""What goes back: the original with its time of arrival and one more replay, mended where that is asked for."""

from typing import Any

import pytest
from msgspec import Raw

from app.core.model.arrival import arrived_ms, is_replay
from app.core.model.records import Reading, Rejected
from app.deadletters.json_patch import patch_of
from app.deadletters.mending import ArrivalTime, LeftOut, Mending, field_of, mended
from app.kafka.messages import OutgoingMessage
from tests.unit.deadletters.letters import Held, held, letter, plain
from tests.unit.records import GOOD, NOW_MS, Message, read

DAY = 86_400_000
LATER = NOW_MS + 30 * DAY


def back(record: Held, mending: Mending | None = None) -> OutgoingMessage:
    found = mended(letter(record), mending or Mending(), LATER)
    assert isinstance(found, OutgoingMessage)
    return found


def left_out(record: Held, mending: Mending) -> LeftOut:
    found = mended(letter(record), mending, LATER)
    assert isinstance(found, LeftOut)
    return found


def test_the_original_goes_back_as_it_was_with_one_more_replay() -> None:
    more = [("ingest_ms", b"%d" % (NOW_MS - 5)), ("gateway", b"http"), ("replay_count", b"2"), ("x", b"\xff")]
    found = back(held(b"\x00\xff", more=more))
    assert (found.key, found.value, found.partition) == (b"u1/d1", b"\x00\xff", None)
    assert found.headers == [
        ("mqtt_topic", b"users/u1/devices/d1/telemetry"), ("kind", b"telemetry"), *more[:2], ("x", b"\xff"),
        ("replay_count", b"3"),
    ]  # fmt: skip


def test_it_is_no_delivery_of_an_mqtt_broker_any_more() -> None:
    """A worker would take a second refusal for a redelivery, and write no dead letter."""
    names = [name for name, _ in back(held(more=[("mqtt_id", b"7"), ("mqtt_dup", b"1"), ("retained", b"1")])).headers]
    assert "mqtt_id" not in names
    assert "mqtt_dup" not in names
    assert "retained" in names


def test_a_tombstone_stays_one() -> None:
    assert back(held(None)).value is None
    assert back(held(b"")).value == b""


def as_record(found: OutgoingMessage) -> Message:
    return Message(found.value, found.headers, found.key, LATER)


def test_its_time_is_judged_as_on_its_first_arrival() -> None:
    record = as_record(back(held(GOOD)))
    assert is_replay(record)
    assert arrived_ms(record, LATER) == NOW_MS
    assert isinstance(read(record), Reading)
    anew = as_record(back(held(GOOD, more=[("ingest_ms", b"%d" % NOW_MS)]), Mending(ArrivalTime.NOW)))
    assert arrived_ms(anew, LATER) == LATER
    assert [name for name, _ in anew.headers].count("ingest_ms") == 1


def test_a_letter_of_four_fields_goes_back_to_its_topic() -> None:
    found = back(plain(GOOD))
    assert found.headers == [
        ("mqtt_topic", b"users/u1/devices/d1/telemetry"), ("kind", b"telemetry"), ("ingest_ms", b"%d" % NOW_MS),
        ("replay_count", b"1"),
    ]  # fmt: skip
    assert found.key == b"u1/d1"
    assert isinstance(read(as_record(found)), Reading)
    late = plain(GOOD, timestamp="never")
    late.timestamp = NOW_MS - DAY
    assert ("ingest_ms", b"%d" % (NOW_MS - DAY)) in back(late).headers


def test_a_letter_without_topic_and_key_goes_to_its_partition() -> None:
    found = back(plain(b"{}", original_topic="in"))
    assert (found.key, found.partition) == (None, 0)
    assert not any(name == "mqtt_topic" for name, _ in found.headers)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("battery=90", "battery", b"90"), ("a=1.50", "a", b"1.50"), ("a=hello", "a", b'"hello"'), ("a=", "a", b'""'),
        ("a=null", "a", b"null"), ("a=[1, 2]", "a", b"[1,2]"), ("a=b=c", "a", b'"b=c"'), ('a="90"', "a", b'"90"'),
        ("timestamp=2026-11-21T02:00:00Z", "timestamp", b'"2026-11-21T02:00:00Z"'), ("a=NaN", "a", b'"NaN"'),
    ],
)  # fmt: skip
def test_fields_of_the_command_line(text: str, name: str, value: bytes) -> None:
    found = field_of(text)
    assert (found[0], bytes(found[1])) == (name, value)


@pytest.mark.parametrize("text", ["", "a", "=1", "="])
def test_what_is_no_field_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="FIELD=VALUE"):
        field_of(text)


def test_a_field_is_set_and_all_others_keep_their_bytes() -> None:
    payload = b'{"a":1.50,"b": 12345678901234567890123,"battery":"90"}'
    found = back(held(payload), Mending(fields={"battery": Raw(b"90"), "c": Raw(b"null")}))
    assert found.value == b'{"a":1.50,"b":12345678901234567890123,"battery":90,"c":null}'


def test_a_mended_letter_is_a_reading() -> None:
    wrong = GOOD.replace(b'"battery":80', b'"battery":"80"')
    assert isinstance(read(as_record(back(held(wrong)))), Rejected)
    assert isinstance(read(as_record(back(held(wrong), Mending(fields=dict([field_of("battery=80")]))))), Reading)


def test_fields_first_then_the_patch() -> None:
    patch = patch_of(b'[{"op":"move","from":"/a","path":"/b"}]')
    assert back(held(b'{"a":0}'), Mending(fields={"a": Raw(b"1")}, patch=patch)).value == b'{"b":1}'


@pytest.mark.parametrize("payload", [b"", None, b"{", b"[]", b"7", b"\xff", b"[" * 200_000])
def test_what_has_no_fields_is_left_out(payload: bytes | None) -> None:
    assert left_out(held(payload), Mending(fields={"a": Raw(b"1")})).why == "not a JSON object"


def test_what_a_patch_does_not_fit_is_left_out() -> None:
    patch: Any = patch_of(b'[{"op":"test","path":"/unit","value":"F"}]')
    found = left_out(held(b'{"unit":"C"}'), Mending(patch=patch))
    assert (found.why, found.detail) == ("the patch does not fit", "operation 0 (test /unit): the value is another")
    assert left_out(held(b"{"), Mending(patch=patch)).why == "not JSON"
    assert back(held(b'{"unit":"F"}'), Mending(patch=patch)).value == b'{"unit":"F"}'


def test_changes_have_a_name() -> None:
    words = {
        Mending(arrival, fields, patch).words
        for arrival in ArrivalTime
        for fields in ({}, {"a": Raw(b"1")}, {"a": Raw(b"2")})
        for patch in ((), patch_of(b'[{"op":"remove","path":"/a"}]'))
    }
    assert len(words) == 12
