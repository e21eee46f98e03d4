"""The writer alone, in the test's own process: a wedged producer is replaced, and a topic may grow."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from app.gateways import writer as writing
from app.gateways.mqtt.packets import Publish
from app.gateways.mqtt.records import to_record
from app.gateways.record import IngestRecord
from app.gateways.writer import KafkaWriter
from app.kafka.access import Access
from app.local.servers.kafka import Kafka
from tests.integration.bridges import create_topics, read_topic
from tests.integration.test_bridge import assert_first_occurrences_in_order, complete, numbered
from tests.servers import KafkaServer

pytestmark = pytest.mark.integration


def records(devices: int, numbers: range) -> list[IngestRecord]:
    """Numbered records of several devices."""
    return [to_record(Publish(topic, payload, 1, []), 1795248000000) for topic, payload in numbered(devices, numbers)]


def stopped(pid: int) -> bool:
    """Whether all threads of a process are stopped."""
    stats = [each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


async def test_a_producer_that_delivers_nothing_is_replaced_and_nothing_is_overtaken(
    server_dir: Path, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "STUCK_SECONDS", 1.5)
    broker = Kafka(server_dir)
    broker.start()
    broker.wait_ready()
    writer = KafkaWriter(Access(broker.bootstrap), "writer", unique, f"{unique}-dlq")
    try:
        await create_topics(broker.bootstrap, unique)
        await writer.write(records(10, range(50)))
        os.kill(broker.pid, signal.SIGSTOP)
        async with asyncio.timeout(10):  # each thread stops when it is its turn
            while not stopped(broker.pid):  # noqa: ASYNC110 - another process's threads
                await asyncio.sleep(0.01)
        written = asyncio.create_task(writer.write(records(10, range(50, 100))))
        await asyncio.sleep(5)
        assert not written.done()
        assert not writer.available
        os.kill(broker.pid, signal.SIGCONT)
        await written
        assert writer.available
        await writer.write(records(10, range(100, 150)))
        found = await read_topic(broker.bootstrap, unique, lambda r: complete(r, 10, 150))
    finally:
        await writer.close()
        broker.stop()
    assert_first_occurrences_in_order(found, 10, 150)


async def test_new_partitions_are_used(kafka: KafkaServer, unique: str) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=1)
    writer = KafkaWriter(Access(kafka.bootstrap), "writer", unique, f"{unique}-dlq")
    try:
        await writer.write(records(20, range(1)))
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        await admin.create_partitions({unique: NewPartitions(total_count=6)})
        await admin.close()
        client = (await writer.connect()).client
        async with asyncio.timeout(10):  # the broker that is asked may not know the topics yet
            while len(client.cluster.partitions_for_topic(unique) or ()) < 6:
                await client.force_metadata_update()
        await writer.write(records(20, range(1, 2)))
        found = await read_topic(kafka.bootstrap, unique, lambda r: complete(r, 20, 2))
    finally:
        await writer.close()
    assert {record.partition for record in found if record.value == b"0"} == {0}
    assert len({record.partition for record in found if record.value == b"1"}) > 1
