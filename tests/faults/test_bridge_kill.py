"""kill -9 of the bridge, ten times under load: what the MQTT broker acknowledged is in Kafka, in order per device."""

import asyncio
from pathlib import Path

import pytest

from tests.integration.bridges import create_topics, program, publisher, read_topic
from tests.integration.test_bridge import assert_first_occurrences_in_order, complete, numbered, ours, settings
from tests.servers import KafkaServer, MqttServer

pytestmark = [pytest.mark.faults, pytest.mark.integration]

DEVICES, ROUNDS, PER_ROUND = 50, 10, 100


async def test_every_published_message_is_in_kafka(
    kafka: KafkaServer, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq")
    with program("bridge", tmp_path / "log", **settings(kafka.bootstrap, mosquitto, unique)) as bridge:
        await bridge.logged("bridge_mqtt_connected")
        async with publisher(mosquitto, unique) as client:
            for round_ in range(ROUNDS):
                numbers = range(round_ * PER_ROUND, (round_ + 1) * PER_ROUND)
                load = asyncio.create_task(client.publish(numbered(DEVICES, numbers, unique)))
                await asyncio.sleep(0.05 + 0.02 * round_)  # killed at another point of the load each time
                bridge.kill()
                bridge.start()
                assert await load == DEVICES * PER_ROUND
                await bridge.logged("bridge_mqtt_connected", times=round_ + 2)
        count = ROUNDS * PER_ROUND
        found = await read_topic(kafka.bootstrap, unique, lambda r: complete(ours(r, unique), DEVICES, count), 60)
    found = ours(found, unique)
    assert_first_occurrences_in_order(found, DEVICES, count)
    print(f"{DEVICES * count} published, {len(found) - DEVICES * count} repeats, 0 lost")
