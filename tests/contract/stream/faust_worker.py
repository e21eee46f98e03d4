"""A real Faust worker over the batching transport, in the test's own process, doing what the test says with a batch."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from faust.types import TP

from app.core.model.records import Record
from app.kafka.access import Access
from app.kafka.topics import TopicSpec, create
from app.settings import Settings
from app.stream.batch_reader import BatchTopic, FaustBatch, FaustSource
from app.stream.batches import BatchLimits
from app.stream.events import NoTransportEvents
from app.stream.faust_config import RoundsApp, build_app
from app.stream.rebalance.start_position import Position
from app.stream.transport import BatchConsumer, BatchTransport

Handle = Callable[[FaustBatch], Awaitable[None]]


class Report(NoTransportEvents):
    """Keeps what the transport reports."""

    def __init__(self) -> None:
        self.healed: list[tuple[int, int, int]] = []
        self.missing: list[tuple[int, int, int]] = []
        self.reset: list[tuple[int, Position]] = []
        self.doubts: list[str] = []
        self.anew: list[tuple[str, list[int]]] = []

    def gap_healed(self, tp: TP, expected: int, found: int) -> None:
        self.healed.append((tp.partition, expected, found))

    def offsets_missing(self, tp: TP, expected: int, found: int) -> None:
        self.missing.append((tp.partition, expected, found))

    def log_in_doubt(self, what: str) -> None:
        self.doubts.append(what)

    def log_made_anew(self, cause: str, partitions: Sequence[int]) -> None:
        self.anew.append((cause, list(partitions)))

    def position_reset(self, tp: TP, position: Position) -> None:
        self.reset.append((tp.partition, position))


class WorkerApp(RoundsApp):
    """Remembers why it crashed; Faust's own would end the process."""

    reason: BaseException | None = None

    async def crash(self, reason: BaseException) -> None:
        self.reason = self.reason or reason
        await super().crash(reason)


async def ack(batch: FaustBatch) -> None:
    await batch.ack()


class Worker:
    """`async with Worker(...)`: joins the group `iot-<name>` and hands every batch to `handle`, which acks by default.

    Several workers of a group may run beside each other; `number` distinguishes them.
    """

    def __init__(
        self, broker: str, topic: str, name: str, directory: Path, handle: Handle = ack, number: int = 1, **limits: int
    ) -> None:
        settings = Settings(
            app=name,
            kafka_broker=broker,
            kafka_topic=topic,
            kafka_partitions=limits.pop("partitions", 2),
            kafka_commit_interval=0.1,
            kafka_session_timeout=6.0,
            batch_max_rows=limits.get("max_rows", 100),
            kafka_max_fetch_bytes=limits.pop("fetch_bytes", 1 << 20),
            state_dir=directory / str(number),
            metrics_port=number,
        )
        self.app = build_app(settings, WorkerApp)
        self.report = Report()
        rows = limits.setdefault("max_rows", 100)
        limits.setdefault("partition_bytes", rows * 900)  # two full batches of small records
        self.transport = BatchTransport(self.app, BatchLimits(topic, **limits), self.report)
        self.app.transport = self.transport
        self.seen: list[tuple[int, int, int]] = []  # (partition, first, next) of each batch taken
        self.runs: list[Sequence[Record]] = []
        self.work: Callable[[Any], Awaitable[None]] = self.each  # what the agent does with its stream
        self._handle = handle
        batches = BatchTopic(self.app, topics=[topic], partitions=settings.kafka_partitions)
        self.app.agent(batches, name="test", concurrency=1)(self._take)

    async def _take(self, stream: Any) -> None:
        await self.work(stream)

    async def each(self, stream: Any) -> None:
        async for batch in FaustSource(stream, self.consumer.reader).batches():
            self.seen.append((batch.partition, batch.first_offset, batch.next_offset))
            self.runs.append(batch.records)
            await self._handle(batch)

    @property
    def consumer(self) -> BatchConsumer:
        consumer: BatchConsumer = self.app.consumer
        return consumer

    async def __aenter__(self) -> "Worker":
        self.app.conf.datadir.mkdir(parents=True, exist_ok=True)
        await self.app.maybe_start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.app.stop()

    @property
    def partitions(self) -> set[int]:
        """Assigned and being read."""
        consumer = self.consumer
        if not consumer.flow_active or self.app.rebalancing:
            return set()
        return {tp.partition for tp in consumer.flight.expected}

    @property
    def records(self) -> int:
        """How many records were taken, if none was taken twice."""
        return sum(len(run) for run in self.runs)

    async def seek_behind_its_back(self, partition: int, offset: int) -> None:
        """Move the client's position, as if records had been lost on their way to the transport."""
        thread = self.consumer._thread
        tp = TopicPartition(self.consumer.limits.topic, partition)

        async def seek() -> None:
            thread._ensure_consumer().seek(tp, offset)

        await thread.call_thread(seek)


async def make_topic(broker: str, name: str, partitions: int = 2, **config: str) -> None:
    await create(
        Access(broker),
        [TopicSpec(name, partitions, {key.replace("_", "."): value for key, value in config.items()})],
        1,
    )


async def remake_topic(broker: str, name: str, partitions: int = 2, **config: str) -> None:
    """Delete the topic and make it again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        await admin.delete_topics([name])
        async with asyncio.timeout(20):
            while name in await admin.list_topics():  # noqa: ASYNC110 - the broker notifies nobody
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
    await make_topic(broker, name, partitions, **config)


async def delete_before(broker: str, topic: str, offsets: Mapping[int, int]) -> None:
    """What retention does: the log of each partition starts at that offset from now on."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(topic, partition): RecordsToDelete(offset) for partition, offset in offsets.items()}
        )
    finally:
        await admin.close()


async def produce_in_transactions(broker: str, topic: str, transactions: int, count: int) -> None:
    """Into partition 0; each transaction ends with a marker that takes an offset of its own."""
    async with AIOKafkaProducer(bootstrap_servers=broker, transactional_id=topic) as producer:
        for _ in range(transactions):
            async with producer.transaction():
                for _ in range(count):
                    await producer.send(topic, b"{}", partition=0)


async def produce(broker: str, topic: str, counts: Mapping[int, int], value: bytes = b"{}", **options: Any) -> None:
    """That many records into each partition."""
    async with AIOKafkaProducer(bootstrap_servers=broker, **options) as producer:
        sent = [await producer.send(topic, value, partition=p) for p, count in counts.items() for _ in range(count)]
        await asyncio.gather(*sent)


async def committed(broker: str, group: str, topic: str, partitions: int = 2) -> dict[int, int]:
    """The group's committed offset of each partition that has one."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
        return {tp.partition: at.offset for tp, at in found.items() if tp.topic == topic and at.offset >= 0}
    finally:
        await admin.close()


async def commit(broker: str, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Commit on behalf of a group that has no members."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        tps = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
        consumer.assign(list(tps))
        await consumer.commit(tps)
    finally:
        await consumer.stop()


def contiguous(seen: list[tuple[int, int, int]], partition: int) -> bool:
    """Whether the batches of the partition follow one another."""
    runs = [(first, following) for number, first, following in seen if number == partition]
    return all(left[1] == right[0] for left, right in pairwise(runs))
