"""One record whose header has a name that is no UTF-8: it becomes a dead letter, and its partition goes on; in the
changelog of the states it ends no recovery.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.unreadable import send_unreadable
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site
from tools.audit import read

pytestmark = pytest.mark.integration


async def test_the_record_is_a_dead_letter_and_what_follows_is_stored(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path)
    await site.prepare([])

    async def reads(number: int) -> None:
        body = {"time": datetime.now(UTC).isoformat(), "sequence_id": number, "temperature": 20.5}
        headers = [("mqtt_topic", f"users/{unique}/devices/d1/telemetry".encode())]
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
            value = json.dumps(body).encode()
            await producer.send_and_wait(site.settings.kafka_topic, value, b"k", 0, headers=headers)

    await reads(1)
    await send_unreadable(site.kafka, site.settings.kafka_topic)
    await reads(2)
    with site.program("worker") as worker:
        await worker.ready()
        await site.settled_input()
        await send_unreadable(site.kafka, site.settings.kafka_topic)
        await reads(3)
        await site.settled_input()
        assert worker.alive
        worker.stop()
        worker.forget()
        await send_unreadable(site.kafka, f"{site.settings.group_id}-state-changelog")
        await reads(4)
        worker.start()
        await worker.ready()
        await site.settled_input()
        worker.stop()
    rows = await site.fetch("SELECT sequence_id FROM raw_telemetry ORDER BY sequence_id")
    assert [row["sequence_id"] for row in rows] == [1, 2, 3, 4]
    letters = [json.loads(record.value) for record in await read(site, site.settings.kafka_dlq_topic)]
    assert [(letter["reason"], letter["source"]["offset"]) for letter in letters] == [
        ("missing_field", 1),
        ("missing_field", 3),
    ]
