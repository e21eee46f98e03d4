"""A worker whose rows go straight into the table: in a live stream, over kill -9, and when all is read again."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.test_outage_of_a_worker import metric
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site, until

pytestmark = pytest.mark.integration

RUN = 1000  # readings that are sent, and stored, before the next are
COPIED, FAILED, STORED = "iot_rows_copied_directly_total", "iot_direct_copies_failed_total", "iot_rows_stored_total"


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    made = Site(
        kafka.bootstrap, database, mosquitto, unique, tmp_path, {"kafka_partitions": 1, "direct_copy_min_rows": 1}
    )
    await made.prepare([])
    return made


async def send(site: Site, first: int, count: int = RUN) -> None:
    """Readings of one device, numbered from `first` on."""
    headers = [("mqtt_topic", f"users/{site.unique}/devices/d1/telemetry".encode()), ("kind", b"telemetry")]
    async with AIOKafkaProducer(bootstrap_servers=site.kafka, linger_ms=20) as producer:
        for number in range(first, first + count):
            reading = {"time": datetime.now(UTC).isoformat(), "sequence_id": number, "temperature": 21.5}
            await producer.send(
                site.settings.kafka_topic,
                json.dumps(reading).encode(),
                key=f"{site.unique}/d1".encode(),
                headers=headers,
            )


async def stored(site: Site) -> int:
    ((rows,),) = await site.fetch("SELECT count(*) FROM raw_telemetry WHERE user_id = $1", site.unique)
    return int(rows)


async def test_a_live_stream_goes_straight_in_and_what_comes_again_is_staged(site: Site) -> None:
    with site.program("worker", "first worker") as worker:
        await worker.ready()
        for first in range(0, 5 * RUN, RUN):
            await send(site, first)
            await site.settled_input()
        assert await metric(worker, COPIED) > RUN
        assert await metric(worker, FAILED) == 0
        await send(site, 5 * RUN)
        await until(lambda: _more_than(site, 5 * RUN), 30, lambda: "nothing more is stored")
        worker.kill()  # what was stored and not committed comes again, to a worker that stages its first batches
    with site.program("worker", "second worker") as worker:
        await worker.ready()
        await site.settled_input()
        assert await stored(site) == 6 * RUN
        assert await metric(worker, FAILED) == 0
        before = await metric(worker, COPIED)
        for first in (6 * RUN, 7 * RUN, 8 * RUN):
            await send(site, first)
            await site.settled_input()
        assert await metric(worker, COPIED) > before
        assert await metric(worker, STORED) <= 4 * RUN
        worker.stop()
    assert await stored(site) == 9 * RUN


async def _more_than(site: Site, rows: int) -> bool:
    return await stored(site) > rows
