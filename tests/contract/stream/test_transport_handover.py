"""When the transport may hand over: Faust's recovery empties the agent's queue after it has placed the partitions."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from faust.types import TP

from app.kafka.access import Access
from app.kafka.producer import Producer
from app.stream.batch_reader import FaustBatch
from app.stream.log_progress import log_positions
from app.stream.transport import BatchConsumer
from app.tables.device_table import FaustStates
from tests.contract.stream import faust_worker as fw
from tests.contract.stream.faust_worker import Worker
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


@asynccontextmanager
async def begun(worker: Worker, *held: asyncio.Event) -> AsyncIterator[None]:
    """A worker that is not waited for; whatever is `held` back is not at the end, so that it can stop."""
    starting = asyncio.create_task(worker.__aenter__())
    try:
        yield
    finally:
        for event in held:
            event.set()
        await starting
        await worker.__aexit__()


async def test_the_end_of_a_recovery_does_not_end_the_rebalance_that_has_begun_meanwhile(
    kafka: KafkaServer, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running writes of the first are still waited for when its recovery ends; nothing may be read for it any more."""
    seek, placed, go_on, ended = BatchConsumer.perform_seek, asyncio.Event(), asyncio.Event(), asyncio.Event()
    drain, drained = asyncio.Event(), asyncio.Event()
    taken: list[bool] = []

    async def slow(consumer: BatchConsumer) -> None:
        await seek(consumer)
        placed.set()
        await go_on.wait()
        ended.set()

    async def draining() -> None:
        drain.set()
        await drained.wait()

    async def take(batch: FaustBatch) -> None:
        taken.append(worker.app.rebalancing)
        await batch.ack()

    monkeypatch.setattr(BatchConsumer, "perform_seek", slow)
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 300, 1: 300})
    worker = Worker(kafka.bootstrap, unique, unique, tmp_path, take)
    worker.transport.drain = draining
    async with begun(worker, go_on, drained):
        await until(placed.is_set, 30)
        await worker.consumer.offsets.rejoin()
        await until(drain.is_set, 30)
        assert (worker.app.joined, worker.app.rebalancing_count) == (1, 2)
        go_on.set()
        await until(ended.is_set)
        for _ in range(50):  # whatever the recovery still has to do, it does now
            await asyncio.sleep(0.01)
            assert worker.app.rebalancing
            assert not worker.consumer.flow_active
            assert log_positions(worker.consumer) == {}
        assert worker.records == 0
        drained.set()
        await until(lambda: worker.records == 600, 30)
        assert not any(taken)
        assert worker.app.ended == worker.app.rebalancing_count == 2
        assert all(fw.contiguous(worker.seen, partition) for partition in (0, 1))
    assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == {0: 300, 1: 300}


async def test_rebalances_at_any_moment_of_one_another_end_nobody_and_leave_nothing_behind(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    """The last records of each partition, with none behind them, and somebody who looks at the tides all the time."""
    await fw.make_topic(kafka.bootstrap, unique)
    chance = random.Random(5)
    async with Worker(kafka.bootstrap, unique, unique, tmp_path) as worker:

        async def look() -> None:
            while True:
                log_positions(worker.consumer)
                await asyncio.sleep(0.001)

        looking = asyncio.create_task(look())
        await until(lambda: worker.partitions == {0, 1}, 30)
        for number in range(1, 16):
            await worker.consumer.offsets.rejoin()
            await asyncio.sleep(chance.choice((0, 0.005, 0.05, 0.3)))
            await fw.produce(kafka.bootstrap, unique, {0: 1, 1: 2})
            await worker.consumer.offsets.rejoin()
            done = {TP(unique, 0): number, TP(unique, 1): 2 * number}
            await until(lambda done=done: worker.consumer.flight.done_offsets() == done, 60)  # type: ignore[misc]
        before = worker.app.ended
        await worker.consumer.offsets.rejoin()
        await until(lambda: worker.app.ended > before and not worker.app.rebalancing, 60)  # none is left to stop in
        assert not looking.done()
        looking.cancel()
        assert worker.app.reason is None
        assert worker.report.missing == []


async def test_a_poll_under_way_ends_with_the_rebalance_that_begins(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    """The poll would wait for the next assignment, and then for records of the partitions that it was asked for."""
    await fw.make_topic(kafka.bootstrap, unique)
    async with Worker(kafka.bootstrap, unique, unique, tmp_path) as worker:
        await until(lambda: worker.partitions == {0, 1}, 30)
        thread = worker.consumer._thread
        poll = asyncio.create_task(thread.getmany({TP(unique, 0)}, 600.0))
        await until(lambda: len(thread.polls) == 2)  # the other one is the worker's own
        await worker.consumer.offsets.rejoin()
        assert await asyncio.wait_for(poll, 60) == {}
        await fw.produce(kafka.bootstrap, unique, {0: 1, 1: 1})
        await until(lambda: worker.records == 2, 30)
        assert worker.app.reason is None
