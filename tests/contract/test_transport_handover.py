"""When the transport may hand over: Faust's recovery empties the agent's queue after it has placed the partitions."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from app.adapters.kafka_access import Access
from app.adapters.producer import Producer
from app.adapters.states import FaustStates
from app.adapters.transport import BatchConsumer
from tests.contract import faust_worker as fw
from tests.contract.faust_worker import Worker
from tests.servers import KafkaServer
from tests.waiting import until

pytestmark = pytest.mark.integration


async def test_nothing_is_handed_over_between_the_seek_and_the_end_of_recovery(
    kafka: KafkaServer, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy loop makes that moment long. What the agent has not taken by its end is lost: its partition is stuck."""
    seek, placed = BatchConsumer.perform_seek, asyncio.Event()

    async def slow(consumer: BatchConsumer) -> None:
        await seek(consumer)
        await asyncio.sleep(2.5)
        placed.set()

    async def late(stream: Any) -> None:
        await placed.wait()
        await until(lambda: not worker.app.rebalancing)
        await worker.each(stream)

    monkeypatch.setattr(BatchConsumer, "perform_seek", slow)
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 300, 1: 300})
    changelog = f"iot-{unique}-state-changelog"
    await fw.make_topic(kafka.bootstrap, changelog)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:  # with a state, recovery fetches
        await producer.send_and_wait(changelog, b"state", key=b"device", partition=0)
    worker = Worker(kafka.bootstrap, unique, unique, tmp_path)
    FaustStates(worker.app, 2, Producer(Access(kafka.bootstrap), unique, asyncio.Event()))
    worker.work = late
    async with worker:
        await until(lambda: worker.records == 600)
        assert all(fw.contiguous(worker.seen, partition) for partition in (0, 1))
    assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == {0: 300, 1: 300}
