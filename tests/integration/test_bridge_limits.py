"""Ingress limits of the bridge on real servers: whoever is over his is dead-lettered alone, and acknowledged."""

from pathlib import Path

import mqtt5
import pytest

from tests.integration.bridges import create_topics, figure, program, publisher, read_topic, until
from tests.integration.test_bridge import ours, settings
from tests.servers import KafkaServer, MqttServer

pytestmark = pytest.mark.integration
ALLOWED, SENT = 10, 60


async def test_one_user_over_his_limit_harms_nobody_else(
    kafka: KafkaServer, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    """Ten messages, whatever time this takes: a rate so low that a burst is all there is."""
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq")
    log, loud, quiet = tmp_path / "log", f"{unique}loud", f"{unique}quiet"
    limits = {"ingress_user_messages": 1e-6, "ingress_burst": ALLOWED * 1e6}
    made = settings(kafka.bootstrap, mosquitto, unique) | limits
    with program("bridge", log, **made, metrics_host="127.0.0.1") as bridge:
        await bridge.logged("bridge_mqtt_connected")
        async with publisher(mosquitto, unique) as client:
            await client.publish([(f"users/{loud}/devices/d{n}/telemetry", b"%d" % n) for n in range(SENT)])
            for n in range(SENT):
                client.send_raw(mqtt5.PublishPacket(f"iot/{loud}/s{n}/telemetry", b"qos 0").write())
            await client.publish([(f"users/{quiet}/devices/d1/telemetry", b"%d" % n) for n in range(ALLOWED)])
        found = await read_topic(kafka.bootstrap, unique, lambda r: len(ours(r, unique)) >= 2 * ALLOWED)
        dead = await read_topic(kafka.bootstrap, f"{unique}-dlq", lambda r: len(ours(r, unique)) >= SENT - ALLOWED)
        await until(lambda: figure(log, "iot_bridge_in_flight") == 0)
        await until(lambda: figure(log, rf'iot_bridge_top_limited{{user="{loud}"}}') == 2 * SENT - ALLOWED)
        assert figure(log, 'iot_bridge_limited_total{outcome="dead_lettered"}') == SENT - ALLOWED
        assert figure(log, 'iot_bridge_limited_total{outcome="dropped"}') == SENT
        assert figure(log, 'iot_bridge_refused_total{outcome="dead_lettered"}') == 0
        assert figure(log, f'iot_bridge_top_messages{{user="{quiet}"}}') == ALLOWED
    topics = [dict(record.headers)["mqtt_topic"].decode().split("/")[1] for record in ours(found, unique)]
    assert {user: topics.count(user) for user in topics} == {loud: ALLOWED, quiet: ALLOWED}
    assert sorted(int(record.key.rpartition(b"/d")[2]) for record in ours(dead, unique)) == list(range(ALLOWED, SENT))
    assert {dict(record.headers)["reason"] for record in ours(dead, unique)} == {b"rate_limited"}
    assert b"IOT_INGRESS_USER_MESSAGES" in ours(dead, unique)[0].value


async def test_many_dead_letters_are_written_together(
    kafka: KafkaServer, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    """20,000 of one user: one at a time they would take a minute, and everybody would wait for it."""
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq", max_bytes=2_000_000)
    limits = {"ingress_user_messages": 1e-6, "ingress_burst": 1e6}
    with program("bridge", tmp_path / "log", **settings(kafka.bootstrap, mosquitto, unique), **limits) as bridge:
        await bridge.logged("bridge_mqtt_connected")
        async with publisher(mosquitto, unique) as client:
            await client.publish([(f"users/{unique}/devices/d/telemetry", b"%d" % n) for n in range(20_000)])
        dead = await read_topic(kafka.bootstrap, f"{unique}-dlq", lambda r: len(ours(r, unique)) >= 19_999)
    numbers = [record.offset for record in ours(dead, unique)]
    assert numbers == sorted(numbers)
    assert len(numbers) == 19_999
