"""The bridge between a real Mosquitto and a real Kafka: content exact, order kept, nothing lost over outages."""

import asyncio
import os
import signal
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mqtt5
import psutil
import pytest

from app.local.servers.kafka import Kafka
from app.local.servers.mosquitto import BRIDGE, Mosquitto
from tests.integration.bridges import Program, create_topics, figure, program, publisher, read_topic, until
from tests.servers import KafkaServer, MqttServer

pytestmark = pytest.mark.integration
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TELEMETRY = "users/u1/devices/d1/telemetry"


def settings(kafka: str, mqtt: MqttServer, unique: str) -> dict[str, object]:
    """A bridge of this test alone: its own topic, session and share."""
    return {
        "kafka_broker": kafka,
        "kafka_topic": unique,
        "kafka_dlq_topic": f"{unique}-dlq",
        "mqtt_host": mqtt.host,
        "mqtt_port": mqtt.port,
        "mqtt_username": mqtt.username,
        "mqtt_password": mqtt.password,
        "bridge_client_id": f"bridge-{unique}",
        "bridge_share": unique,
    }


@pytest.fixture
async def bridge(kafka: KafkaServer, mosquitto: MqttServer, unique: str, tmp_path: Path) -> AsyncIterator[Program]:
    """A bridge from the shared broker into the topic `unique`, subscribed."""
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq", max_bytes=1_200_000)
    with program("bridge", tmp_path / "log", **settings(kafka.bootstrap, mosquitto, unique)) as made:
        await made.logged("bridge_mqtt_connected")
        yield made


def ours(records: list[Any], unique: str) -> list[Any]:
    """The shared broker carries other tests' messages too; ours name the test in their topic."""
    return [r for r in records if unique.encode() in dict(r.headers)["mqtt_topic"]]


@pytest.mark.usefixtures("bridge")
async def test_content_key_kind_and_headers_are_exact(kafka: KafkaServer, mosquitto: MqttServer, unique: str) -> None:
    u = unique
    sent: list[tuple[str, bytes, bytes, bytes]] = [  # topic, payload, key, kind
        (f"users/{u}/devices/d1/telemetry", bytes(range(256)), f"{u}/d1".encode(), b"telemetry"),
        (f"users/{u}/devices/empty/telemetry", b"", f"{u}/empty".encode(), b"telemetry"),
        (f"users/{u}/devices/big/telemetry", os.urandom(1 << 20), f"{u}/big".encode(), b"telemetry"),
        (f"users/{u}/devices/ü✓/telemetry", b"\xff\xfe\x00", f"{u}/ü✓".encode(), b"telemetry"),
        (f"iot/{u}/s1/telemetry", b'{"value":1}', u.encode(), b"telemetry"),
        (f"iot/{u}/status", b"online", u.encode(), b"status"),
        (f"users/{u}/config", b"[]", u.encode(), b"config"),
        (f"users/{u}/alerts/manage", b'{"device_id":"d7","action":"ACK"}', f"{u}/d7".encode(), b"alerts_manage"),
        (f"users/{u}/alerts/manage", b"not json", u.encode(), b"alerts_manage"),
        (f"users/{u}/elsewhere", b"x", f"users/{u}/elsewhere".encode(), b"unknown"),
        (f"iot/{u}//telemetry", b"x", f"iot/{u}//telemetry".encode(), b"unknown"),
    ]
    own = [f"users/{u}/alerts", f"users/{u}/alerts/errors", f"users/{u}/config/errors"]
    async with publisher(mosquitto, u) as client:
        await client.publish([(topic, b"our own") for topic in own])
        await client.publish([(topic, payload) for topic, payload, _, _ in sent])
    found = ours(await read_topic(kafka.bootstrap, u, lambda r: len(ours(r, u)) >= len(sent)), u)
    by_topic = defaultdict(list)
    for record in found:
        headers = dict(record.headers)
        by_topic[headers["mqtt_topic"].decode()].append((record.value, record.key, headers["kind"]))
        assert abs(int(headers["ingest_ms"]) - record.timestamp) < 1000
    expected = defaultdict(list)
    for topic, payload, key, kind in sent:
        expected[topic].append((payload, key, kind))
    assert {topic: sorted(found) for topic, found in by_topic.items()} == {
        topic: sorted(wanted) for topic, wanted in expected.items()
    }  # sorted: records of one topic with different keys have no order


@pytest.mark.usefixtures("bridge")
async def test_user_properties_qos_0_and_trace_context(kafka: KafkaServer, mosquitto: MqttServer, unique: str) -> None:
    topic = f"users/{unique}/devices/d1/telemetry"
    async with publisher(mosquitto, unique) as client:
        properties = [("traceparent", PARENT), ("tracestate", "a=b"), ("other", "ü")]
        await client.publish([(topic, b"{}")], user_properties=properties, content_type="application/json")
        client.send_raw(mqtt5.PublishPacket(topic, b"qos 0").write())
        await client.publish([(topic, b"last")])
    found = ours(await read_topic(kafka.bootstrap, unique, lambda r: len(ours(r, unique)) >= 3), unique)
    assert [record.value for record in found] == [b"{}", b"qos 0", b"last"]
    headers = dict(found[0].headers)
    assert (headers["traceparent"], headers["tracestate"]) == (PARENT.encode(), b"a=b")
    assert "traceparent" not in dict(found[1].headers)


async def test_what_kafka_refuses_is_dead_lettered_and_stops_nobody(
    kafka: KafkaServer, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    """The topic takes 300 kB, so a packet that the broker takes is too large for the topic."""
    await create_topics(kafka.bootstrap, unique, max_bytes=300_000)
    await create_topics(kafka.bootstrap, f"{unique}-dlq", max_bytes=1_000_000)
    large, larger = os.urandom(400_000), os.urandom(900_000)
    topic = f"users/{unique}/devices/d1/telemetry"
    with program("bridge", tmp_path / "log", **settings(kafka.bootstrap, mosquitto, unique)) as bridge:
        await bridge.logged("bridge_mqtt_connected")
        async with publisher(mosquitto, unique) as client:
            await client.publish([(topic, b"1"), (topic, large), (topic, b"2"), (topic, larger), (topic, b"3")])
        found = ours(await read_topic(kafka.bootstrap, unique, lambda r: len(ours(r, unique)) >= 3), unique)
        dead = ours(await read_topic(kafka.bootstrap, f"{unique}-dlq", lambda r: len(ours(r, unique)) >= 1), unique)
        await bridge.logged("bridge_record_lost")
        assert bridge.stop() < 10
    assert [record.value for record in found] == [b"1", b"2", b"3"]
    assert len(dead) == 1
    assert dict(dead[0].headers)["reason"] == b"payload_too_large"


async def test_order_per_device_and_nothing_lost_over_reconnects_and_a_restart(
    kafka: KafkaServer, server_dir: Path, unique: str, tmp_path: Path
) -> None:
    """The broker is stopped and started, the bridge too, while 20 devices publish 200 messages each."""
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq")
    broker = Mosquitto(server_dir)
    broker.start()
    broker.wait_ready()
    try:
        with program("bridge", tmp_path / "log", **settings(kafka.bootstrap, broker, unique)) as bridge:
            await bridge.logged("bridge_mqtt_connected")
            for round_ in range(4):
                async with publisher(broker) as client:
                    start = round_ * 50
                    await client.publish(numbered(20, range(start, start + 50)))
                if round_ == 1:
                    broker.stop()
                    broker.start()
                    broker.wait_ready()
                    await bridge.logged("bridge_mqtt_connected", times=2)
                elif round_ == 2:
                    assert bridge.stop() < 10
                    async with publisher(broker) as client:
                        await client.publish([("users/u/devices/away/telemetry", b"while away")])
                    bridge.start()
            found = await read_topic(kafka.bootstrap, unique, lambda r: complete(r, 20, 200))
    finally:
        broker.stop()
    assert_first_occurrences_in_order(found, 20, 200)
    assert any(record.value == b"while away" for record in found)


async def test_a_lost_session_does_not_leave_it_deaf(
    kafka: KafkaServer, server_dir: Path, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq")
    broker = Mosquitto(server_dir)
    broker.start()
    broker.wait_ready()
    try:
        account = {"mqtt_username": BRIDGE, "mqtt_password": broker.password_of(BRIDGE)}  # with the rights it needs
        with program("bridge", tmp_path / "log", **{**settings(kafka.bootstrap, broker, unique), **account}) as bridge:
            await bridge.logged("bridge_mqtt_connected")
            broker.stop()
            for saved in (server_dir / "data").iterdir():
                saved.unlink()
            broker.start()
            broker.wait_ready()
            await bridge.logged("bridge_mqtt_connected", times=2)
            async with publisher(broker) as client:
                await client.publish([(TELEMETRY, b"heard")])
            found = await read_topic(kafka.bootstrap, unique, lambda r: len(r) >= 1)
    finally:
        broker.stop()
    assert [record.value for record in found] == [b"heard"]


async def test_kafka_frozen_longer_than_a_request_may_take(
    mosquitto: MqttServer, server_dir: Path, unique: str, tmp_path: Path
) -> None:
    """SIGSTOP for 13 s: requests (10 s) time out and are sent again; then kill -9 and a restart of Kafka."""
    broker = Kafka(server_dir)
    broker.start()
    broker.wait_ready()
    try:
        await create_topics(broker.bootstrap, unique, f"{unique}-dlq")
        with program("bridge", tmp_path / "log", **settings(broker.bootstrap, mosquitto, unique)) as bridge:
            await bridge.logged("bridge_mqtt_connected")
            async with publisher(mosquitto, unique) as client:
                await client.publish(numbered(10, range(100), unique))
                await until(lambda: figure(tmp_path / "log", "iot_bridge_kafka_connected") == 1)
                os.kill(broker.pid, signal.SIGSTOP)
                await client.publish(numbered(10, range(100, 200), unique))
                await asyncio.sleep(13)
                await until(lambda: figure(tmp_path / "log", "iot_bridge_kafka_connected") == 0)
                os.kill(broker.pid, signal.SIGCONT)
                await client.publish(numbered(10, range(200, 300), unique))
                await read_topic(broker.bootstrap, unique, lambda r: complete(ours(r, unique), 10, 300), 40)
                await until(lambda: figure(tmp_path / "log", "iot_bridge_kafka_connected") == 1)
                broker.kill()
                await client.publish(numbered(10, range(300, 400), unique))
                await asyncio.sleep(3)
                broker.start()
                broker.wait_ready()
                await client.publish(numbered(10, range(400, 500), unique))
            found = await read_topic(broker.bootstrap, unique, lambda r: complete(ours(r, unique), 10, 500), 60)
            assert bridge.stop() < 10
    finally:
        broker.stop()
    assert_first_occurrences_in_order(ours(found, unique), 10, 500)


async def test_memory_is_bounded_while_kafka_is_frozen(
    mosquitto: MqttServer, server_dir: Path, unique: str, tmp_path: Path
) -> None:
    """100 MB wait for Kafka; the bridge holds 8 MiB of it and leaves the rest with the broker."""
    broker = Kafka(server_dir)
    broker.start()
    broker.wait_ready()
    payload = os.urandom(200_000)
    sent = [(f"users/{unique}/devices/d{n % 7}/telemetry", b"%03d" % n + payload) for n in range(500)]
    try:
        await create_topics(broker.bootstrap, unique, f"{unique}-dlq")
        bound = {**settings(broker.bootstrap, mosquitto, unique), "bridge_buffer_bytes": 8 << 20}
        with program("bridge", tmp_path / "log", **bound) as bridge:
            await bridge.logged("bridge_mqtt_connected")
            before = psutil.Process(bridge.pid).memory_info().rss
            os.kill(broker.pid, signal.SIGSTOP)
            async with publisher(mosquitto, unique) as client:
                await client.publish(sent, window=50)
            await until(lambda: figure(tmp_path / "log", "iot_bridge_paused") == 1)
            await asyncio.sleep(1)
            grown = psutil.Process(bridge.pid).memory_info().rss - before
            os.kill(broker.pid, signal.SIGCONT)
            found = await read_topic(broker.bootstrap, unique, lambda r: len(ours(r, unique)) >= len(sent), 60)
            await until(lambda: figure(tmp_path / "log", "iot_bridge_paused") == 0)
            assert figure(tmp_path / "log", 'iot_bridge_payload_bytes_total{kind="telemetry"}') >= 500 * 200_003
            assert bridge.stop() < 10
    finally:
        broker.stop()
    assert grown < 60 << 20, f"{grown:,} bytes"
    assert sorted(record.value[:3] for record in ours(found, unique)) == [b"%03d" % n for n in range(500)]


async def test_both_brokers_may_come_up_later(server_dir: Path, unique: str, tmp_path: Path) -> None:
    kafka, mqtt = Kafka(server_dir / "kafka"), Mosquitto(server_dir / "mqtt")
    with program("bridge", tmp_path / "log", **settings(kafka.bootstrap, mqtt, unique)) as bridge:
        await bridge.logged("bridge_mqtt_disconnected", times=2)
        await bridge.logged("bridge_kafka_retry", times=2)
        try:
            mqtt.start()
            mqtt.wait_ready()
            await bridge.logged("bridge_mqtt_connected")
            async with publisher(mqtt) as client:
                await client.publish([(TELEMETRY, b"early")])
            kafka.start()
            kafka.wait_ready()
            await create_topics(kafka.bootstrap, unique, f"{unique}-dlq")
            found = await read_topic(kafka.bootstrap, unique, lambda r: len(r) >= 1, 40)
            assert bridge.stop() < 10
        finally:
            mqtt.stop()
            kafka.stop()
    assert [record.value for record in found] == [b"early"]


async def test_it_stops_in_time_while_kafka_is_away(mosquitto: MqttServer, unique: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        made = settings(address, mosquitto, unique) | {"shutdown_timeout": 4}
        with program("bridge", tmp_path / "log", **made) as bridge:
            await bridge.logged("bridge_mqtt_connected")
            async with publisher(mosquitto, unique) as client:
                await client.publish([(TELEMETRY, b"x")])
            await until(lambda: figure(tmp_path / "log", "iot_bridge_in_flight") >= 1)
            assert 3 < bridge.stop() < 10, "the bridge tries for IOT_SHUTDOWN_TIMEOUT"


async def test_a_wrong_password_is_named(
    mosquitto: MqttServer, kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    wrong = {**settings(kafka.bootstrap, mosquitto, unique), "mqtt_password": "wrong"}
    with program("bridge", tmp_path / "log", **wrong) as bridge:
        await until(lambda: "refused the connection: NOT_AUTHORIZED" in bridge.log.read_text())
        assert "wrong" not in bridge.log.read_text()


def numbered(devices: int, numbers: range, user: str = "u") -> list[tuple[str, bytes]]:
    """Messages of several devices, each device's in the order of its numbers."""
    return [(f"users/{user}/devices/{d}/telemetry", b"%d" % n) for n in numbers for d in range(devices)]


def by_device(records: list[Any]) -> dict[bytes, list[int]]:
    """The numbers of each device in Kafka's order, without repeats of an earlier one."""
    found: dict[bytes, dict[int, None]] = defaultdict(dict)
    for record in records:
        if record.value.isdigit():
            found[record.key].setdefault(int(record.value))
    return {key: list(numbers) for key, numbers in found.items()}


def complete(records: list[Any], devices: int, count: int) -> bool:
    """Whether every number of every device is there."""
    found = by_device(records)
    return len(found) == devices and all(len(numbers) == count for numbers in found.values())


def assert_first_occurrences_in_order(records: list[Any], devices: int, count: int) -> None:
    """Nothing lost, nothing overtaken."""
    assert len(by_device(records)) == devices
    for key, numbers in by_device(records).items():
        assert numbers == list(range(count)), key
