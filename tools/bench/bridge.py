"""Measure the bridge on real Mosquitto and Kafka: messages per CPU second with delayed PUBACKs, and the added latency.

    python -m tools.bench.bridge [messages]

CPU seconds are the bridge process's own (user and system), from its first message to its last PUBACK.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.partitioner import murmur2

from tests import servers
from tests.integration.bridges import Program, create_topics, program, publisher, read_topic
from tests.integration.test_bridge import settings

PAYLOAD = b'{"sequence_id":%d,"timestamp":"2026-11-21T02:00:00Z","temperature":21.5,"battery":80,"humidity":41.2}'
DEVICES = 500
CHUNK = 5000
ROUND_TRIPS = 300


def messages(count: int) -> list[tuple[str, bytes]]:
    """Telemetry of DEVICES devices of 50 users."""
    return [(f"users/u{i % 50}/devices/d{i % DEVICES}/telemetry", PAYLOAD % i) for i in range(count)]


def cpu(pid: int) -> float:
    """CPU seconds that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def live(bridge: Program, mqtt: servers.MqttServer, kafka: str, topic: str, count: int) -> None:
    """Measure the bridge while the publisher limits the rate."""
    load = messages(count)
    used, began = cpu(bridge.pid), time.perf_counter()
    async with publisher(mqtt, "bench") as client:
        await client.publish(load, window=5000)
    await read_topic(kafka, topic, lambda found: len(found) >= count, 60)
    used, took = cpu(bridge.pid) - used, time.perf_counter() - began
    report("live", count, used, took)


async def backlog(bridge: Program, mqtt: servers.MqttServer, kafka: str, topic: str, count: int) -> None:
    """Measure the bridge on messages that the MQTT broker queued before the bridge started."""
    bridge.stop()
    async with publisher(mqtt, "bench") as client:
        await client.publish(messages(count), window=5000)
    bridge.start()
    await bridge.logged("bridge_started", times=2)
    used, began = cpu(bridge.pid), time.perf_counter()
    await read_topic(kafka, topic, lambda found: len(found) >= 2 * count, 60)
    report("backlog", count, cpu(bridge.pid) - used, time.perf_counter() - began)


async def latency(mqtt: servers.MqttServer, kafka: str, topic: str) -> None:
    """Measure the time from publish to the record at a consumer, one message at a time."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="latest", group_id=None)
    await consumer.start()
    await consumer.seek_to_end()
    took = []
    try:
        async with publisher(mqtt, "bench") as client:
            for one in messages(ROUND_TRIPS):
                began = time.perf_counter()
                sent = asyncio.create_task(client.publish([one]))
                await consumer.getone()
                took.append(1000 * (time.perf_counter() - began))
                await sent
    finally:
        await consumer.stop()
    took.sort()
    p50, p99 = statistics.median(took), took[int(0.99 * len(took))]
    print(f"latency    publish to consumer, idle: p50 {p50:.1f} ms, p99 {p99:.1f} ms ({ROUND_TRIPS} messages)")


async def producers(kafka: str, topic: str, count: int) -> None:
    """Measure CPU per message of aiokafka's `send` and `send_batch`, the reason why the writer builds its batches."""
    headers = [
        ("mqtt_topic", b"users/u1/devices/d1/telemetry"),
        ("kind", b"telemetry"),
        ("ingest_ms", b"1795248000000"),
    ]
    records = [(b"u%d/d%d" % (i % 50, i % DEVICES), PAYLOAD % i) for i in range(count)]
    options = {"bootstrap_servers": kafka, "acks": "all", "enable_idempotence": True, "compression_type": "lz4"}
    async with AIOKafkaProducer(max_batch_size=1 << 19, **options) as producer:
        for name, write in (("send", by_message), ("send_batch", by_batch)):
            began = time.process_time()
            for at in range(0, count, CHUNK):
                await write(producer, topic, records[at : at + CHUNK], headers)
            used = time.process_time() - began
            print(f"producer   {name}: {1e6 * used / count:.1f} us of CPU a message")


Records = Sequence[tuple[bytes, bytes]]
Headers = list[tuple[str, bytes]]


async def by_message(producer: AIOKafkaProducer, topic: str, records: Records, headers: Headers) -> None:
    """Send with one future per message."""
    futures = [await producer.send(topic, value, key=key, headers=headers) for key, value in records]
    await asyncio.gather(*futures)


async def by_batch(producer: AIOKafkaProducer, topic: str, records: Records, headers: Headers) -> None:
    """Send with one batch and one future per partition."""
    count = len(await producer.partitions_for(topic))
    batches = [producer.create_batch() for _ in range(count)]
    for key, value in records:
        partition = PARTITIONS.get(key)
        if partition is None:
            partition = PARTITIONS[key] = (murmur2(key) & 0x7FFFFFFF) % count
        batches[partition].append(timestamp=None, key=key, value=value, headers=headers)
    used = [(index, batch) for index, batch in enumerate(batches) if batch.record_count()]
    await asyncio.gather(*[await producer.send_batch(batch, topic, partition=index) for index, batch in used])


PARTITIONS: dict[bytes, int] = {}


def report(name: str, count: int, used: float, took: float) -> None:
    """Print one line of the result."""
    rate = count / took
    print(
        f"{name:10} {count:,} messages, {used:.2f} CPU s = {count / used:,.0f} a CPU second; {rate:,.0f}/s on the clock"
    )


async def main(count: int) -> None:
    """Start the servers and run all measurements."""
    with servers.kafka() as kafka, servers.mosquitto() as mqtt, tempfile.TemporaryDirectory() as directory:
        await create_topics(kafka.bootstrap, "bench", "bench-dlq", "producers")
        with program("bridge", Path(directory) / "log", **settings(kafka.bootstrap, mqtt, "bench")) as bridge:
            await bridge.logged("bridge_mqtt_connected")
            await live(bridge, mqtt, kafka.bootstrap, "bench", count)
            await backlog(bridge, mqtt, kafka.bootstrap, "bench", count)
            await latency(mqtt, kafka.bootstrap, "bench")
        await producers(kafka.bootstrap, "producers", count)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
