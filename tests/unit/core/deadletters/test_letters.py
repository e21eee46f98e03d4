"""Letters of this product and of other producers; nothing else is one, and nothing raises."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.deadletters.letters import NOWHERE, read_letter, refused_ms
from tests.unit.deadletters.letters import held, plain
from tests.unit.records import NOW_MS


def test_a_letter_of_a_worker_is_read_as_it_was_written() -> None:
    record = held(b"\xff\x00", more=[("x", b"1")])
    found = read_letter(record.value, record.headers, b"another key")
    assert found is not None
    assert (found.payload, found.key, found.reason) == (b"\xff\x00", b"u1/d1", "bad_json")
    assert (found.source_topic, found.source_partition, found.source_offset) == ("in", 5, 42)


def test_four_fields_are_enough() -> None:
    record = plain(b"abc")
    found = read_letter(record.value, [("reason", b"r"), ("x", b"1")], b"k")
    assert found is not None
    assert (found.original_topic, found.error, found.payload) == ("users/u1/devices/d1/telemetry", "boom", b"abc")
    assert (found.reason, found.stage, found.replay_count, found.key) == ("r", "", 0, b"k")
    assert (found.source_topic, found.source_partition, found.source_offset) == ("", NOWHERE, NOWHERE)
    assert found.headers == [("x", b"1")]
    assert refused_ms(found) == NOW_MS


@pytest.mark.parametrize(
    ("partition", "offset", "place"),
    [(b"3", b"812", (3, 812)), (b"\0\0\0\x03", b"\0\0\0\0\0\0\x03\x2c", (3, 812)), (b"three", b"", (NOWHERE, NOWHERE))],
)
def test_the_origin_is_read_as_text_and_as_binary(partition: bytes, offset: bytes, place: tuple[int, int]) -> None:
    origin = [("x-original-topic", b"in"), ("x-original-partition", partition), ("x-original-offset", offset)]
    found = read_letter(plain().value, origin, None)
    assert found is not None
    assert (found.source_topic, (found.source_partition, found.source_offset)) == ("in", place)


@pytest.mark.parametrize(
    "more", [{"replay_count": 7}, {"replay_count": "7"}, {"reason": 3, "source": []}, {"stage": {}}]
)
def test_other_fields_may_be_anything(more: dict[str, Any]) -> None:
    found = read_letter(plain(**more).value, (), None)
    assert found is not None
    assert found.replay_count == (7 if more.get("replay_count") == 7 else 0)


@pytest.mark.parametrize("without", ["original_topic", "error", "payload_base64"])
def test_less_is_no_letter(without: str) -> None:
    fields = json.loads(plain().value or b"")
    del fields[without]
    assert read_letter(json.dumps(fields).encode(), (), None) is None


@given(st.none() | st.binary(max_size=100), st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=9)), max_size=3))
def test_noise_is_no_letter(value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
    assert read_letter(value, headers, b"k") is None


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-11-21T03:00:00", "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00"]
)
def test_a_time_that_says_nothing_is_none_or_a_number(text: str) -> None:
    found = read_letter(plain(timestamp=text).value, (), None)
    assert found is not None
    assert refused_ms(found) is None or "9999" in text or "0001" in text
