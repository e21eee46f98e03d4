"""Golden cases: cases/*.json, each a record and the reading or the reason that must come of it.

`payload` and `topic` are a text or a list of texts and [text, times]; `payload_hex` is for bytes that are no text.
"""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from xxhash import xxh3_64_intdigest

from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.model.records import Reading, Reason, Rejected, Stage
from app.settings import Settings
from tests import DEFAULT
from tests.unit.records import NOW, NOW_MS, TOPIC, Message, read

CASES: list[dict[str, Any]] = [
    {"file": path.stem, **case}
    for path in sorted((Path(__file__).parent / "cases").glob("*.json"))
    for case in json.loads(path.read_text())
]
# What only later steps can find: rules and commands are read by other parts, and the database speaks for itself.
NOT_OURS = {
    *(Reason.INVALID_RULES, Reason.INVALID_COMMAND, Reason.REFUSED_BY_DATABASE, Reason.RATE_LIMITED),
    Reason.SINK_REFUSED,
}


def joined(parts: Any) -> str:
    return parts if isinstance(parts, str) else "".join(p if isinstance(p, str) else p[0] * p[1] for p in parts)


def record_of(case: dict[str, Any]) -> Message:
    if "payload_hex" in case:
        value: bytes | None = bytes.fromhex(case["payload_hex"])
    else:
        value = None if case.get("tombstone") else joined(case["payload"]).encode()
    headers = [("mqtt_topic", joined(case.get("topic", TOPIC)).encode())]
    if "headers" in case:
        headers = [(name, text.encode()) for name, text in case["headers"]]
    if "headers_hex" in case:
        headers = [(name, bytes.fromhex(text)) for name, text in case["headers_hex"]]
    key = case.get("key", "u1/d1")
    timestamp = case.get("timestamp", Message().timestamp)
    return Message(value, headers, None if key is None else key.encode(), timestamp)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['file']}: {case['name']}")
def test_case(case: dict[str, Any]) -> None:
    record = record_of(case)
    found = read(record, NOW, Decoder(DecodeLimits(payload_max_bytes=case.get("payload_max_bytes", 1 << 20)), DEFAULT))
    if "reason" in case:
        assert isinstance(found, Rejected), found
        assert (found.reason, found.stage) == (Reason(case["reason"]), Stage(case["stage"])), found.detail
        assert case["says"] in found.detail
        assert found.detail.isprintable()
        assert len(found.detail) < 400
        assert found.record is record
        return
    assert isinstance(found, Reading), found
    seen = {**msgspec.structs.asdict(found), "time": found.time.isoformat(), "extra": found.extra_json}
    del seen["extra_json"]
    assert seen == case["reading"]
    assert {name: json.loads(bytes(raw)) for name, raw in found.extra.items()} == json.loads(found.extra_json)


def test_every_reason_has_a_case() -> None:
    seen = {Reason(case["reason"]) for case in CASES if "reason" in case}
    assert seen == set(Reason) - NOT_OURS


def test_every_case_has_its_own_name() -> None:
    assert len({(case["file"], case["name"]) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("value", range(16))
def test_a_missing_sequence_id_is_the_hash_of_the_payload(value: int) -> None:
    payload = b'{"value":%d}' % value
    found = read(Message(payload, [("mqtt_topic", b"iot/n1/s1/telemetry")]))
    assert isinstance(found, Reading)
    assert found.sequence_id == xxh3_64_intdigest(payload) % 2**63


@pytest.mark.parametrize(
    ("time", "taken"),
    [(300.0, True), (300.001, False), (-90 * 86400.0, True), (-90 * 86400 - 0.001, False), (0.0, True)],
)
@pytest.mark.parametrize("arrived", [NOW_MS, NOW_MS - 63_999, NOW_MS + 1, NOW_MS - 400 * 86_400_000])
def test_times_are_held_to_when_the_record_came_in_and_not_to_the_clock(time: float, taken: bool, arrived: int) -> None:
    payload = b'{"time":%d,"sequence_id":1}' % round(arrived + time * 1000)
    decoder = Decoder(DecodeLimits(), DEFAULT)
    topic = ("mqtt_topic", TOPIC.encode())
    for record in (
        Message(payload, [topic], timestamp=arrived),
        Message(payload, [topic, ("ingest_ms", b"%d" % arrived)], timestamp=NOW_MS),
    ):
        for later in (timedelta(), timedelta(days=7), timedelta(days=800)):
            found = read(record, NOW + later, decoder)
            assert isinstance(found, Reading) is taken, found


def test_limits_beyond_what_a_time_can_say() -> None:
    decoder = Decoder(DecodeLimits(time_future_max=1e300, time_past_max=1e300), DEFAULT)
    found = read(Message(b'{"time":0,"sequence_id":1}'), NOW, decoder)
    assert isinstance(found, Reading)
    assert found.time.timestamp() == 0


def test_the_limits_are_those_of_the_settings() -> None:
    defaults = {name: Settings.model_fields[name].default for name in DecodeLimits.__struct_fields__}
    assert msgspec.structs.asdict(DecodeLimits()) == defaults
