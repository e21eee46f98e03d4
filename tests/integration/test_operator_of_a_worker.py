"""What a real worker reports to its operator, what goes on meanwhile, and that nothing is lost or dead-lettered."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.test_late_rows import LIMIT
from tests.integration.test_outage_of_a_worker import logged, metric
from tests.servers import KafkaServer, MqttServer
from tests.workers import Running, Site, until
from tools.audit import Sent, audit

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

LATE, LIVE = 0, 1  # partitions


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    """Two partitions; rows of an hour ago are late."""
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"kafka_partitions": 2, "late_after": 3600})
    await made.prepare([])
    return made


async def send(site: Site, sent: list[Sent], partition: int, count: int, age: timedelta) -> None:
    """Send one record at a time: each comes as a small batch of its own, or nearly so."""
    async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
        for number in range(len(sent), len(sent) + count):
            reading = {"time": (datetime.now(UTC) - age).isoformat(), "sequence_id": number, "temperature": 20}
            one = Sent(f"users/u/devices/d{partition}/telemetry", b"u/d%d" % partition, json.dumps(reading).encode())
            headers = [("mqtt_topic", one.topic.encode()), ("kind", b"telemetry")]
            await producer.send_and_wait(site.settings.kafka_topic, one.payload, one.key, partition, headers=headers)
            sent.append(one)


async def is_ready(worker: Running) -> tuple[int, Mapping[str, Any]]:
    """Status of /ready, and its advice."""
    status, body = await worker.get("/ready")
    return status, json.loads(body or "{}").get("advice", {})


async def test_late_rows_that_are_refused_hold_their_partition_alone(site: Site) -> None:
    sent: list[Sent] = []
    await site.fetch(f"DO $do$ BEGIN EXECUTE $sql${LIMIT}$sql$; END $do$")
    await site.fetch("INSERT INTO unpacked VALUES (0, true)")
    with site.program("worker") as worker:
        await worker.ready()
        await send(site, sent, LATE, 60, timedelta(days=30))

        async def reported() -> bool:
            return "late rows" in (await is_ready(worker))[1]

        await until(reported, 20, worker.tail)
        began = time.monotonic()
        await send(site, sent, LIVE, 200, timedelta(minutes=1))
        await site.committed_to({LIVE: 200}, 20)
        print(f"200 live records one by one in {time.monotonic() - began:.1f} s")
        status, advice = await is_ready(worker)
        assert status == 200
        assert "max_tuples_decompressed_per_dml_transaction" in advice["late rows"]
        assert (await site.committed()).get(LATE, 0) == 0
        assert not worker.events("circuit_breaker_OPENED")
        assert await metric(worker, "iot_operator_needed") == 1
        await site.fetch("UPDATE unpacked SET hard = false")
        await site.settled_input()
        assert (await is_ready(worker), await metric(worker, "iot_operator_needed")) == ((200, {}), 0)
    (await audit(site, sent)).must_balance()


async def test_a_missing_table_is_named_and_held(site: Site) -> None:
    sent: list[Sent] = []
    with site.program("worker") as worker:
        await worker.ready()
        await site.fetch("ALTER TABLE raw_telemetry RENAME TO away")
        await send(site, sent, LIVE, 20, timedelta(minutes=1))

        async def reported() -> bool:
            return await logged(worker, "operator_needed")

        await until(reported, 20, worker.tail)
        status, advice = await is_ready(worker)
        assert status == 503
        assert "42P01" in advice["writes"]
        assert "iot-stream db init" in advice["writes"]
        assert worker.events("operator_needed")[0]["what"] == f"writes: {advice['writes']}"
        assert await metric(worker, "iot_operator_needed") == 1
        await site.fetch("ALTER TABLE away RENAME TO raw_telemetry")
        await site.settled_input(90)
        assert (await is_ready(worker), await metric(worker, "iot_operator_needed")) == ((200, {}), 0)
    (await audit(site, sent)).must_balance()
