"""Records of transactional producers on a real Kafka: what was aborted is no data, what is open is not there yet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from faust.types import TP

from app.kafka.group_consumer import GroupConsumer
from app.settings import Settings
from app.stream.batch_reader import FaustBatch
from app.worker.watchdog import Watchdog
from tests.contract.stream import faust_worker as fw
from tests.contract.stream.faust_worker import Worker
from tests.servers import KafkaServer
from tests.waiting import until

pytestmark = pytest.mark.integration


class Writer:
    """A transactional producer into partition 0; several may have transactions open beside each other."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer, self._topic = producer, topic

    async def begin(self, *values: bytes) -> None:
        await self._producer.begin_transaction()
        for value in values:
            await self._producer.send_and_wait(self._topic, value, partition=0)

    async def commit(self, *values: bytes) -> None:
        await self.begin(*values)
        await self._producer.commit_transaction()

    async def abort(self, *values: bytes) -> None:
        await self.begin(*values)
        await self._producer.abort_transaction()

    async def end(self, *, commit: bool) -> None:
        await (self._producer.commit_transaction() if commit else self._producer.abort_transaction())


@asynccontextmanager
async def writer(kafka: KafkaServer, topic: str, name: str = "w") -> AsyncIterator[Writer]:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"{topic}-{name}") as producer:
        yield Writer(producer, topic)


def values(worker: Worker) -> list[bytes]:
    return [record.value or b"" for run in worker.runs for record in run]


@pytest.mark.parametrize("rows", [2, 100])
async def test_what_was_aborted_is_not_handed_over(kafka: KafkaServer, unique: str, tmp_path: Path, rows: int) -> None:
    """Before the worker comes, in its run of records, and while it waits for more."""
    await fw.make_topic(kafka.bootstrap, unique, 1)
    async with writer(kafka, unique) as one, writer(kafka, unique, "other") as other:
        await one.abort(*[b"gone"] * 3)
        await one.commit(b"1", b"2")
        await other.begin(b"3")
        await one.abort(*[b"gone"] * 3)
        await one.commit(b"4")
        await fw.produce(kafka.bootstrap, unique, {0: 1}, b"5")
        await other.end(commit=True)
        await one.abort(b"gone")
        async with Worker(kafka.bootstrap, unique, unique, tmp_path, max_rows=rows, partitions=1) as worker:
            await until(lambda: values(worker) == [b"1", b"2", b"3", b"4", b"5"])
            watchdog = Watchdog(60.0)
            watch = asyncio.create_task(watchdog.watch(worker.consumer))
            await one.abort(*[b"gone"] * 3)
            await one.commit(b"6")
            await fw.produce(kafka.bootstrap, unique, {0: 1}, b"7")
            await until(lambda: values(worker)[5:] == [b"6", b"7"], 30)
            await one.abort(*[b"gone"] * 3)  # nothing comes behind it: four offsets that hold no records for us
            end = 10 + 6 + 2 + 4 + 1 + 2 + 1 + 4 - 1
            assert (await worker.consumer.ends())[TP(unique, 0)] >= end
            await until(lambda: watch.done() or worker.consumer.flight.done.get(TP(unique, 0), 0) >= end, 40)
            await until(lambda: watch.done() or watchdog.lag.get(TP(unique, 0)) == 0, 40)
            assert not watch.done(), watch.exception()
            watch.cancel()
        assert (worker.report.missing, worker.report.reset) == ([], [])
        assert worker.app.reason is None


async def test_an_open_transaction_holds_back_what_comes_after_it_and_nobody_is_stuck(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    await fw.make_topic(kafka.bootstrap, unique, 1)
    tp = TP(unique, 0)
    async with writer(kafka, unique) as one, Worker(kafka.bootstrap, unique, unique, tmp_path, partitions=1) as worker:
        await fw.produce(kafka.bootstrap, unique, {0: 1}, b"before")
        await until(lambda: values(worker) == [b"before"])
        await one.begin(b"open")
        await fw.produce(kafka.bootstrap, unique, {0: 1}, b"after")
        assert await worker.consumer.ends() == {tp: 1}
        await until(lambda: (worker.consumer.highwater(tp) or 0) == 3)  # the client has asked since, and has nothing
        watchdog = Watchdog(1.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watchdog.watch(worker.consumer), 3)
        assert watchdog.lag == {tp: 0}
        assert values(worker) == [b"before"]
        await one.end(commit=True)
        await until(lambda: values(worker) == [b"before", b"open", b"after"])
        assert worker.app.reason is None


async def test_a_commit_behind_an_open_transaction_is_no_topic_made_anew(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    """A worker that read what was not committed yet has left it: the last stable offset lies before it."""
    await fw.make_topic(kafka.bootstrap, unique, 1)
    async with writer(kafka, unique) as one:
        await fw.produce(kafka.bootstrap, unique, {0: 5}, b"old")
        await one.begin(b"open")
        await fw.commit(kafka.bootstrap, f"iot-{unique}", unique, {0: 6})
        async with Worker(kafka.bootstrap, unique, unique, tmp_path, partitions=1) as worker:
            await until(lambda: worker.partitions == {0})
            await fw.produce(kafka.bootstrap, unique, {0: 1}, b"new")
            await one.end(commit=False)
            await until(lambda: values(worker) == [b"new"])
            assert (worker.report.missing, worker.report.reset) == ([], [])


async def test_batches_of_a_rebalance_in_an_open_transaction(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    """Whoever takes over reads on from the commit, and aborts stay out."""
    await fw.make_topic(kafka.bootstrap, unique, 1)
    async with writer(kafka, unique) as one:
        async with Worker(kafka.bootstrap, unique, unique, tmp_path, partitions=1) as first:
            await one.commit(b"1")
            await until(lambda: values(first) == [b"1"])
            await one.begin(b"gone")
        async with Worker(kafka.bootstrap, unique, unique, tmp_path, number=2, partitions=1) as second:
            await until(lambda: second.partitions == {0})
            await one.end(commit=False)
            await one.commit(b"2")
            await until(lambda: values(second) == [b"2"])
            assert (second.report.missing, second.report.reset) == ([], [])


async def test_alerts_that_were_taken_back_reach_nobody(kafka: KafkaServer, unique: str) -> None:
    await fw.make_topic(kafka.bootstrap, unique, 1)
    settings = Settings(kafka_broker=kafka.bootstrap, kafka_alerts_topic=unique, app=unique)
    consumer = GroupConsumer(settings, "test", unique)
    async with writer(kafka, unique) as one:
        await one.abort(b"gone")
        await one.commit(b"told")
    try:
        found: list[bytes | None] = []
        async with asyncio.timeout(30):
            while not found:
                found += [record.value for records in (await consumer.take()).values() for record in records]
        assert found == [b"told"]
    finally:
        await consumer.close()


async def test_a_batch_of_nothing_but_aborted_records_is_none(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    """More of them than a fetch holds: the client goes on by itself."""
    await fw.make_topic(kafka.bootstrap, unique, 1)
    taken: list[FaustBatch] = []

    async def take(batch: FaustBatch) -> None:
        taken.append(batch)
        await batch.ack()

    async with writer(kafka, unique) as one:
        await one.abort(*[b"x" * 400] * 50)
        await one.commit(b"data")
    async with Worker(
        kafka.bootstrap, unique, unique, tmp_path, take, partitions=1, max_rows=10, fetch_bytes=2000
    ) as worker:
        await until(lambda: bool(taken))
        assert [(batch.first_offset, batch.next_offset) for batch in taken] == [(51, 52)]
        assert worker.report.missing == []
