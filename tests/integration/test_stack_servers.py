"""The embedded servers keep what they acknowledged, over a clean stop and over kill -9."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import paho.mqtt.client as mqtt
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from app.local.servers.kafka import Kafka
from app.local.servers.mosquitto import BRIDGE, Mosquitto
from app.local.servers.postgres import Postgres
from tests.servers import KafkaServer

pytestmark = pytest.mark.integration


async def _create_and_fill(bootstrap: str, topic: str, size: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "1300000"})])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=2_000_000) as producer:
        await producer.send_and_wait(topic, b"x" * size)


async def _end_offset(bootstrap: str, topic: str) -> int:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        partition = TopicPartition(topic, 0)
        ends: dict[Any, int] = await consumer.end_offsets([partition])
        return ends[partition]


async def test_kafka_takes_a_record_of_1_2_mb(kafka: KafkaServer, topic_prefix: str) -> None:
    await _create_and_fill(kafka.bootstrap, f"{topic_prefix}big", 1_200_000)
    assert await _end_offset(kafka.bootstrap, f"{topic_prefix}big") == 1


def test_kafka_keeps_its_records_and_its_address(server_dir: Path) -> None:
    kafka = Kafka(server_dir)
    kafka.start()
    try:
        kafka.wait_ready()
        address, first = kafka.bootstrap, kafka.pid
        asyncio.run(_create_and_fill(address, "kept", 10))
        kafka.kill()
        kafka.start()
        kafka.wait_ready()
        assert kafka.bootstrap == address
        assert kafka.pid != first
        assert asyncio.run(_end_offset(address, "kept")) == 1
    finally:
        assert kafka.stop()


def test_kafka_starts_from_what_was_prepared_and_has_ids_of_its_own(server_dir: Path) -> None:
    """The archive of its classes is in the memory of its process, and no two brokers have an id in common."""
    ids: list[str] = []
    for name in ("one", "two"):
        kafka = Kafka(server_dir / name)
        kafka.start()
        try:
            kafka.wait_ready()
            assert any(mapped.path.endswith("classes.jsa") for mapped in psutil.Process(kafka.pid).memory_maps())
        finally:
            assert kafka.stop()
        lines = (server_dir / name / "log" / "meta.properties").read_text().splitlines()
        ids += [line for line in lines if line.startswith(("cluster.id=", "directory.id="))]
    assert len(set(ids)) == len(ids) == 4


async def _query(dsn: str, sql: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def test_postgres_is_durable_and_wants_the_password(server_dir: Path) -> None:
    postgres = Postgres(server_dir)
    postgres.start()
    try:
        postgres.wait_ready()
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert asyncio.run(_query(postgres.dsn, f"SHOW {setting}")) == "on"
        asyncio.run(_query(postgres.dsn, "CREATE TABLE kept AS SELECT 7 AS n"))
        postgres.kill()
        postgres.start()
        postgres.wait_ready()
        assert asyncio.run(_query(postgres.dsn, "SELECT n FROM kept")) == 7
        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(_query(postgres.dsn.replace(postgres.password, "wrong"), "SELECT 1"))
        assert (server_dir / "password").stat().st_mode & 0o777 == 0o600
    finally:
        assert postgres.stop()


class Device:
    """An MQTT 5 client that remembers what it received and how its publishes were answered."""

    def __init__(self, broker: Mosquitto, account: str, client_id: str, password: str | None = None) -> None:
        self.received: list[str] = []
        self.connected: list[str] = []
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        self.client.username_pw_set(account, password or broker.password_of(account))
        self.client.on_message = lambda client, data, message: self.received.append(message.topic)
        self.client.on_connect = lambda client, data, flags, reason, properties: self.connected.append(str(reason))
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        self.client.connect(broker.host, broker.port, clean_start=False, properties=properties)
        self.wait(lambda: bool(self.connected))

    def wait(self, reached: Any, seconds: float = 5.0) -> bool:
        for _ in range(int(seconds * 20)):
            if reached():
                return True
            self.client.loop(0.05)
        return bool(reached())

    def publish(self, topic: str) -> str:
        answers: list[str] = []
        self.client.on_publish = lambda client, data, mid, reason, properties: answers.append(str(reason))
        self.client.publish(topic, b"{}", qos=1)
        self.wait(lambda: bool(answers))
        return answers[0]

    def subscribe(self, topic: str) -> None:
        done: list[object] = []
        self.client.on_subscribe = lambda client, data, mid, reasons, properties: done.append(reasons)
        self.client.subscribe(topic, qos=1)
        assert self.wait(lambda: bool(done))

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop(0.05)


def test_mosquitto_confines_accounts_and_keeps_sessions(server_dir: Path) -> None:
    broker = Mosquitto(server_dir, accounts=["u1"])
    broker.start()
    try:
        broker.wait_ready()
        refused = Device(broker, "u1", "d1", password="wrong")
        assert refused.connected == ["Not authorized"]

        bridge = Device(broker, BRIDGE, "bridge")
        bridge.subscribe("$share/bridges/users/+/devices/+/telemetry")
        bridge.close()

        device = Device(broker, "u1", "d1")
        assert device.publish("users/u1/devices/d1/telemetry") == "Success"
        assert device.publish("users/u1/devices/d2/telemetry") == "Not authorized"
        assert device.publish("users/u2/devices/d1/telemetry") == "Not authorized"
        assert device.publish("users/u1/alerts") == "Not authorized"
        device.close()

        assert broker.stop()  # the bridge was away: its message must be in the saved session
        broker.start()
        broker.wait_ready()
        bridge = Device(broker, BRIDGE, "bridge")
        assert bridge.wait(lambda: bridge.received == ["users/u1/devices/d1/telemetry"]), bridge.received
        bridge.close()
    finally:
        assert broker.stop()
