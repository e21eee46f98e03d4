"""Every kind of message that can never be stored: one dead letter with its reason each, and its neighbours stored."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from app.core.model.records import Reason
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site
from tools.audit import Sent, audit, header, read

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC)
TIME = NOW.isoformat().replace("+00:00", "Z")
TELEMETRY = "users/{u}/devices/d1/telemetry"


def reading(more: str = "", time: str = f'"{TIME}"', sequence: str = "1") -> bytes:
    """A payload with one mistake in it."""
    return f'{{"time":{time},"sequence_id":{sequence}{more}}}'.encode()


def at(**ago: float) -> str:
    """A JSON string with a time that long ago."""
    return f'"{(NOW - timedelta(**ago)).isoformat()}"'


# (what, topic, payload, reason)
BAD: list[tuple[str, str, bytes, str]] = [
    ("larger than 1 MiB", TELEMETRY, reading(',"x":"' + "a" * (1 << 20) + '"'), "payload_too_large"),
    ("not UTF-8", TELEMETRY, reading(',"x":"').replace(b"}", b'\xff\xfe"}'), "bad_encoding"),
    ("cut off", TELEMETRY, reading()[:-1], "bad_json"),
    ("binary", TELEMETRY, bytes(range(1, 128)), "bad_json"),
    ("NaN", TELEMETRY, reading(',"temperature":NaN'), "bad_json"),
    ("Infinity", TELEMETRY, reading(',"temperature":Infinity'), "bad_json"),
    ("-Infinity deep inside", TELEMETRY, reading(',"x":[{"y":-Infinity}]'), "bad_json"),
    ("an array", TELEMETRY, b"[" + reading() + b"]", "not_an_object"),
    ("a number", TELEMETRY, b"21.5", "not_an_object"),
    ("20,000 levels", TELEMETRY, reading(',"x":' + "[" * 20000 + "]" * 20000), "too_deep"),
    ("33 levels", TELEMETRY, reading(',"x":' + "[" * 32 + "]" * 32), "too_deep"),
    ("NUL in a value", TELEMETRY, reading(',"x":"a\\u0000b"'), "nul_character"),
    ("NUL in a name", TELEMETRY, reading(',"a\\u0000b":1'), "nul_character"),
    ("a lone surrogate in a value", TELEMETRY, reading(',"x":"\\ud800"'), "lone_surrogate"),
    ("a lone surrogate in an id", TELEMETRY, reading(',"device_id":"\\udfff"'), "lone_surrogate"),
    ("no sequence_id", TELEMETRY, f'{{"time":"{TIME}"}}'.encode(), "missing_field"),
    ("no time", TELEMETRY, b'{"sequence_id":1}', "missing_field"),
    ("a null in a required field", TELEMETRY, reading(sequence="null"), "missing_field"),
    ("sequence_id as text", TELEMETRY, reading(sequence='"1"'), "wrong_type"),
    ("battery as text", TELEMETRY, reading(',"battery":"90"'), "wrong_type"),
    ("battery with a fraction", TELEMETRY, reading(',"battery":90.5'), "wrong_type"),
    ("true as temperature", TELEMETRY, reading(',"temperature":true'), "wrong_type"),
    ("sequence_id of 2^63", TELEMETRY, reading(sequence=str(1 << 63)), "out_of_range"),
    ("battery of 2^31", TELEMETRY, reading(f',"battery":{1 << 31}'), "out_of_range"),
    ("temperature beyond a double", TELEMETRY, reading(',"temperature":1e400'), "out_of_range"),
    ("a number jsonb cannot hold", TELEMETRY, reading(',"x":1e131072'), "out_of_range"),
    ("a time without an offset", TELEMETRY, reading(time='"2026-01-01T00:00:00"'), "bad_time"),
    ("no such day", TELEMETRY, reading(time='"2026-02-30T00:00:00Z"'), "bad_time"),
    ("a day ahead", TELEMETRY, reading(time=at(days=-1)), "time_in_future"),
    ("100 days ago", TELEMETRY, reading(time=at(days=100)), "time_too_old"),
    ("the year 1", TELEMETRY, reading(time='"0001-01-01T00:00:00Z"'), "time_too_old"),
    ("ids beyond a btree page", "users/{u}/devices/" + "d" * 2800 + "/telemetry", reading(), "key_too_long"),
    ("a control character in an id", "users/{u}/devices/d\u0001/telemetry", reading(), "bad_id"),
    ("another device's id", TELEMETRY, reading(',"device_id":"d2"'), "identity_mismatch"),
    ("another user's id", TELEMETRY, reading(',"user_id":"somebody"'), "identity_mismatch"),
    ("a topic nobody knows", "users/{u}/devices/d1/video", reading(), "unknown_topic"),
    ("bad rules", "users/{u}/config", b'[{"key":"t","operator":"~","threshold":1,"message":"m"}]', "invalid_rules"),
    (
        "a command for no rule",
        "users/{u}/alerts/manage",
        b'{"device_id":"d1","rule_id":"x","action":"ACK","way":"users"}',
        "invalid_command",
    ),
    ("what the schema's owner forbids", TELEMETRY, reading(',"battery":101'), "refused_by_database"),
]


async def test_each_becomes_one_dead_letter_and_its_neighbours_are_stored(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"kafka_partitions": 2})
    await site.prepare([])
    await site.fetch("ALTER TABLE raw_telemetry ADD CHECK (battery <= 100)")
    sent = []
    for number, (_, topic, payload, reason) in enumerate(BAD):
        for one in (2 * number, 2 * number + 1):
            good = json.dumps({"time": TIME, "sequence_id": 10 + one, "temperature": 0.5 * one})
            sent.append(Sent(TELEMETRY.format(u=unique), f"{unique}/d1".encode(), good.encode()))
        # The same key for all: good and bad come in the same batch, and end in the same transaction.
        sent.insert(-1, Sent(topic.format(u=unique), f"{unique}/d1".encode(), payload, reason))
    await send(site, sent)
    with site.program("worker") as worker:
        await worker.ready()
        await site.settled_input()
        books = await audit(site, sent)
        metrics = (await worker.get("/metrics"))[1]
        assert worker.stop() < 10
    books.must_balance()
    assert (books.rows, books.dead) == (2 * len(BAD), len(BAD))
    for reason in {reason for *_, reason in BAD}:
        count = sum(reason == one for *_, one in BAD)
        assert f'iot_dead_letters_total{{reason="{reason}"}} {count}.0' in metrics
    for letter in await read(site, site.settings.kafka_dlq_topic):
        check_letter(letter, unique)


def check_letter(letter: Any, unique: str) -> None:
    """The parts of a dead letter the audit does not compare: headers, and words for a human."""
    envelope = json.loads(letter.value)
    assert header(letter, "reason") == envelope["reason"].encode()
    assert header(letter, "mqtt_topic") == envelope["original_topic"].encode()
    assert header(letter, "trace") == b"\x00\xff"
    assert (envelope["replay_count"], envelope["source"]["key"]) == (0, f"{unique}/d1")
    assert len(envelope["error"]) > 20
    assert "\n" not in envelope["error"]
    assert datetime.fromisoformat(envelope["timestamp"]) > NOW


def test_every_reason_has_a_case() -> None:
    """Whoever adds a reason adds a case for that reason too."""
    # A matter of the program's version; by MQTT it only clears what the broker retains; of gateways; of sinks.
    later = {Reason.UNSUPPORTED_KIND, Reason.EMPTY_PAYLOAD, Reason.RATE_LIMITED, Reason.SINK_REFUSED}
    assert {reason for *_, reason in BAD} == set(Reason) - later


async def send(site: Site, sent: list[Sent]) -> None:
    """Put messages on the input topic in order, as the bridge would; a header of bytes with them."""
    options = {"max_request_size": 2 << 20, "enable_idempotence": True}
    async with AIOKafkaProducer(bootstrap_servers=site.kafka, **options) as producer:
        for one in sent:
            headers = [("mqtt_topic", one.topic.encode()), ("trace", b"\x00\xff")]
            await producer.send(site.settings.kafka_topic, one.payload, key=one.key, headers=headers)
        await producer.flush()
