"""The sinks that push, as a program between a real Kafka and real receivers: kills, refusals, failures, stops."""

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.bridges import create_topics, figure, program, read_topic, until
from tests.receivers.grpc_receiver import Acks, GrpcReceiver, grpc_receiver
from tests.receivers.grpc_receiver import Item as Pushed
from tests.receivers.http_receiver import Answer, HttpReceiver, Item, http_receiver
from tests.servers import KafkaServer

pytestmark = pytest.mark.integration

SINKS = ("http_feed", "grpc")
DEVICES, PARTITIONS, COUNT = 30, 4, 6_000
REFUSED, FAILED_OVER, BAD = 1234, 2345, 3456  # numbers of readings


async def send(bootstrap: str, topic: str, numbers: Iterable[int]) -> None:
    """Readings as from a bridge, of devices of a user and sensors of a node in turn; one record is invalid."""
    now_ms = int(time.time() * 1000)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
    await producer.start()
    try:
        waiting = []
        for number in numbers:
            device = number % DEVICES
            path = f"iot/n1/d{device}" if device % 2 else f"users/u1/devices/d{device}"
            key = f"{'n1' if device % 2 else 'u1'}/d{device}".encode()
            fields: dict[str, Any] = {"sequence_id": number, "timestamp": now_ms + number, "temperature": number / 8}
            value = b"no JSON" if number == BAD else json.dumps(fields).encode()
            waiting.append(await producer.send(topic, value, key=key, headers=_headers(f"{path}/telemetry", now_ms)))
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()


def _headers(topic: str, now_ms: int) -> list[tuple[str, bytes]]:
    return [("mqtt_topic", topic.encode()), ("kind", b"telemetry"), ("ingest_ms", str(now_ms).encode())]


def judge_feed(items: Sequence[Item]) -> Answer | None:
    numbers = {item["sequence_id"] for item in items}
    if FAILED_OVER in numbers:
        return Answer(500, "Traceback (most recent call last)")
    return Answer(422, "no such device") if REFUSED in numbers else None


def judge_push(items: list[Pushed]) -> Acks | None:
    places = {item.sequence_id: place for place, item in enumerate(items)}
    if FAILED_OVER in places:
        return Acks(raises=ValueError("no such thing"))
    return Acks({places[REFUSED]: "bad_id"}) if REFUSED in places else None


def in_order(found: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """By device, the numbers in the order of their first arrival; a repeat resets the position."""
    first: dict[str, dict[int, None]] = {}
    for device, number in found:
        first.setdefault(device, {})[number] = None
    return {device: list(numbers) for device, numbers in first.items()}


def wanted(count: int, without: set[int]) -> dict[str, list[int]]:
    return {f"d{n}": [one for one in range(n, count, DEVICES) if one not in without] for n in range(DEVICES)}


def settings(kafka: KafkaServer, unique: str, feed: HttpReceiver, push: GrpcReceiver) -> dict[str, object]:
    return {
        "sinks": ",".join(SINKS),
        "app": unique,
        "kafka_broker": kafka.bootstrap,
        "kafka_topic": unique,
        "kafka_dlq_topic": f"{unique}-dlq",
        "kafka_session_timeout": 6,
        "sink_retry_max": 0.5,
        "feed_url": feed.url,
        "feed_token": "a-token-of-the-test",
        "feed_flush_ms": 50,
        "grpc_push_target": push.target,
        "grpc_push_flush_ms": 50,
    }


async def test_all_is_pushed_in_order_and_bad_records_delay_no_other_device(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq", partitions=PARTITIONS)
    log = tmp_path / "log"
    async with http_receiver(judge=judge_feed) as feed, grpc_receiver(judge=judge_push) as push:
        with program("sink", log, **settings(kafka, unique, feed, push)) as sinks:
            await send(kafka.bootstrap, unique, range(1000))
            await until(lambda: len(feed.taken) > 500 and len(push.taken) > 500, 60)
            sinks.kill()
            sinks.start()
            await feed.stop()  # an unavailable receiver delays no other sink
            await send(kafka.bootstrap, unique, range(1000, COUNT))
            without = {REFUSED, FAILED_OVER, BAD}
            await until(lambda: len(push.taken) > COUNT // 2, 60)
            await feed.start()
            count = COUNT

            def done() -> bool:
                found = (
                    len({item["sequence_id"] for item in feed.taken}),
                    len({item.sequence_id for item in push.taken}),
                )
                refused = [figure(log, f'iot_sink_records_total{{outcome="refused",sink="{name}"}}') for name in SINKS]
                return found == (count - len(without),) * 2 and refused == [2, 2]

            for _ in range(60):  # other devices, which show that the receiver is available
                if done():
                    break
                await send(kafka.bootstrap, unique, range(count, count + DEVICES))
                count += DEVICES
                await asyncio.sleep(0.5)
            await until(done, 30)
            letters = await read_topic(kafka.bootstrap, f"{unique}-dlq", lambda found: len(found) >= 4, 30)
            for name in SINKS:
                await until(lambda: not figure(log, f'iot_sink_held_records{{sink="{name}"}}'), 20)  # noqa: B023
                books = {
                    one: figure(log, f'iot_sink_records_total{{outcome="{one}",sink="{name}"}}')
                    for one in ("written", "refused", "skipped", "filtered", "revoked")
                }
                received = figure(log, f'iot_sink_received_total{{sink="{name}"}}')
                assert received == sum(books.values()), (name, books)
                assert (books["refused"], books["skipped"]) == (2, 1), (name, books)
            assert sinks.stop() < 10
    posted = [(item.get("device_id") or item["sensor_id"], item["sequence_id"]) for item in feed.taken]
    assert in_order(posted) == wanted(count, without)
    assert in_order(_place(item) for item in push.taken) == wanted(count, without)
    said = sorted((json.loads(one.value)["stage"], json.loads(one.value)["reason"], _number(one)) for one in letters)
    assert said == [
        (f"sink:{name}", "sink_refused", number) for name in sorted(SINKS) for number in (REFUSED, FAILED_OVER)
    ]
    assert "a-token-of-the-test" not in log.read_text()


def _place(item: Pushed) -> tuple[str, int]:
    return getattr(item, "device_id", "") or getattr(item, "sensor_id", ""), item.sequence_id


def _number(letter: Any) -> int:
    payload = json.loads(b64decode(json.loads(letter.value)["payload_base64"]))
    number: int = payload["sequence_id"]
    return number
