"""The bridge's session at a real Mosquitto: kept or lost while messages wait for Kafka, and what the broker retains."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mqtt5
import pytest

from app.core.routing.client_ids import client_id
from app.core.routing.client_ids import share as share_name
from app.local.servers.kafka import Kafka
from app.local.servers.mosquitto import BRIDGE, Mosquitto
from tests.integration.bridges import create_topics, figure, program, publisher, read_topic, until
from tests.integration.test_bridge import assert_first_occurrences_in_order, complete, numbered, ours, settings
from tests.servers import GivenMqtt, KafkaServer, MqttServer

pytestmark = pytest.mark.integration
DEVICES, EACH = 10, 60
QOS_1 = mqtt5.QoS.AT_LEAST_ONCE


@pytest.fixture
def broker(server_dir: Path) -> Iterator[Mosquitto]:
    """A Mosquitto of this test alone."""
    made = Mosquitto(server_dir / "mqtt")
    made.start()
    made.wait_ready()
    yield made
    made.stop()


@pytest.fixture
def kafka_to_freeze(server_dir: Path) -> Iterator[Kafka]:
    """A Kafka of this test alone."""
    made = Kafka(server_dir / "kafka")
    made.start()
    made.wait_ready()
    yield made
    os.kill(made.pid, signal.SIGCONT)
    made.stop()


@pytest.mark.parametrize("kept", [True, False])
async def test_all_that_waits_for_kafka_outlives_the_connection_and_the_session(
    kafka_to_freeze: Kafka, broker: Mosquitto, unique: str, tmp_path: Path, kept: bool
) -> None:
    """600 messages, acknowledged to devices, are in the bridge; the broker restarts with its session, or without it."""
    bootstrap, log = kafka_to_freeze.bootstrap, tmp_path / "log"
    await create_topics(bootstrap, unique, f"{unique}-dlq")
    with program("bridge", log, **settings(bootstrap, broker, unique), metrics_host="127.0.0.1") as bridge:
        await bridge.logged("bridge_mqtt_connected")
        async with publisher(broker) as client:
            await client.publish(numbered(DEVICES, range(1), unique))
            await read_topic(bootstrap, unique, lambda found: len(found) >= DEVICES)
            os.kill(kafka_to_freeze.pid, signal.SIGSTOP)
            await client.publish(numbered(DEVICES, range(1, EACH), unique))
        await until(lambda: figure(log, "iot_bridge_in_flight") == DEVICES * (EACH - 1))
        await until(lambda: figure(log, "iot_bridge_waiting_seconds") > 0.5)
        broker.stop()
        if not kept:
            for saved in (broker.data_dir / "data").iterdir():
                saved.unlink()
        broker.start()
        broker.wait_ready()
        await bridge.logged("bridge_mqtt_connected", times=2)
        os.kill(kafka_to_freeze.pid, signal.SIGCONT)
        async with publisher(broker) as client:
            await client.publish(numbered(DEVICES, range(EACH, EACH + 1), unique))
        found = await read_topic(bootstrap, unique, lambda found: len(found) >= DEVICES * (EACH + 1), 60)
        await until(lambda: figure(log, "iot_bridge_in_flight") == 0)
        assert figure(log, "iot_bridge_waiting_seconds") == 0
        assert figure(log, "iot_bridge_sessions_lost_total") == (0 if kept else 1)
        assert bridge.stop() < 10
    assert values_by_key(found) == {f"{unique}/{d}".encode(): list(range(EACH + 1)) for d in range(DEVICES)}
    assert ('"event": "bridge_session_lost"' in log.read_text()) is not kept


def values_by_key(records: list[Any]) -> dict[bytes, list[int]]:
    """All that was written for each device, repeats too."""
    found: dict[bytes, list[int]] = {}
    for record in records:
        found.setdefault(record.key, []).append(int(record.value))
    return found


async def test_what_a_broker_retains_comes_once_and_says_so(
    kafka: KafkaServer, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    """And a message that its device wants retained is news like any other while the bridge is there."""
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq")
    old, new = f"users/{unique}/config", f"iot/{unique}/status"
    plain = {**settings(kafka.bootstrap, mosquitto, unique), "bridge_share": "-"}
    async with publisher(mosquitto, unique) as client:
        await client.publish([(old, b"old")], retain=True)
        with program("bridge", tmp_path / "log", **plain) as bridge:
            await bridge.logged("bridge_mqtt_connected")
            await client.publish([(new, b"live")], retain=True)
            await read_topic(kafka.bootstrap, unique, lambda found: len(ours(found, unique)) >= 2)
            for times in (2, 3):
                bridge.stop()
                bridge.start()
                await bridge.logged("bridge_mqtt_connected", times=times)
            await client.publish([(new, b"last")])
            found = await read_topic(kafka.bootstrap, unique, lambda found: b"last" in {r.value for r in found})
        await client.publish([(old, b""), (new, b"")], retain=True)
    reported = [(record.value, dict(record.headers).get("retained")) for record in ours(found, unique)]
    assert sorted(reported) == [(b"last", None), (b"live", None), (b"old", b"1")]


async def test_what_is_retained_is_no_news_on_a_shared_subscription_either(
    kafka: KafkaServer, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    """MQTT 5 has brokers send nothing retained there; Mosquitto 2.0 sends it all the same, with its flag."""
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq")
    topic = f"users/{unique}/config"
    async with publisher(mosquitto, unique) as client:
        await client.publish([(topic, b"old")], retain=True)
        with program("bridge", tmp_path / "log", **settings(kafka.bootstrap, mosquitto, unique)) as bridge:
            await bridge.logged("bridge_mqtt_connected")
            await client.publish([(topic, b"live")])
            found = await read_topic(kafka.bootstrap, unique, lambda found: len(ours(found, unique)) >= 1)
        await client.publish([(topic, b"")], retain=True)
    reported = [(record.value, dict(record.headers).get("retained")) for record in ours(found, unique)]
    assert (b"live", None) in reported
    assert set(reported) <= {(b"live", None), (b"old", b"1")}


async def test_another_account_takes_neither_the_session_nor_a_share(
    kafka: KafkaServer, server_dir: Path, unique: str, tmp_path: Path
) -> None:
    """The other account knows the configured names, and connects while the bridge is connected and while it is not."""
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq")
    broker = Mosquitto(server_dir / "mqtt", accounts=["mallory"])
    broker.start()
    broker.wait_ready()
    mallory = GivenMqtt(broker.host, broker.port, "mallory", broker.password_of("mallory"))
    account = {"mqtt_username": BRIDGE, "mqtt_password": broker.password_of(BRIDGE)}
    used = {**settings(kafka.bootstrap, broker, unique), **account}
    log, name = tmp_path / "log", str(used["bridge_client_id"])
    try:
        with program("bridge", log, **used, metrics_host="127.0.0.1") as bridge:
            await bridge.logged("bridge_mqtt_connected")
            async with publisher(broker) as client, publisher(mallory, "in-the-share") as share:
                for pattern in ("users/#", "iot/#"):
                    topics = [mqtt5.TopicFilter(f"$share/{used['bridge_share']}/{pattern}", max_qos=QOS_1)]
                    share.send_raw(mqtt5.SubscribePacket(1, topics).write())
                for round_ in range(4):
                    async with publisher(mallory, name):  # with a clean start: it would end the session
                        await client.publish(numbered(DEVICES, range(round_ * 10, round_ * 10 + 10)))
                    if round_ == 2:
                        bridge.stop()
                bridge.start()
            found = await read_topic(kafka.bootstrap, unique, lambda r: complete(r, DEVICES, 40))
            page = log.read_text()
            assert figure(log, "iot_bridge_sessions_lost_total") == 0
            assert page.count('"event": "bridge_mqtt_disconnected"') == 0
    finally:
        broker.stop()
    assert_first_occurrences_in_order(found, DEVICES, 40)
    for secret in (client_id(name, account["mqtt_password"]), share_name(unique, account["mqtt_password"])):
        assert secret.rpartition("-")[2] not in page
