"""Kafka in memory: logs, a consumer group, and what stands in for aiokafka's producer and consumer."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from msgspec import Struct
from msgspec.structs import replace

from app.kafka.topic_ids import TopicIdentity
from tests.simulation.life import Life
from tests.simulation.link import Link
from tests.simulation.world import EPOCH, World

INPUT, LETTERS, ALERTS, CHANGELOG = "iot-stream", "iot-stream-dlq", "iot-alerts", "iot-worker-state-changelog"


SOMEBODY = "somebody"  # who has no business there


class LogRecord(Struct):
    """A record as aiokafka's consumer gives it."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = int(EPOCH * 1000)
    timestamp_type: int = 0
    by: str = ""  # the life that wrote it
    zombie: bool = False  # the writer had lost its partitions
    unseen: bool = True  # the writer has not seen its ack, and so may write it again


class Kafka:
    """The brokers. Every request is done in one instant."""

    def __init__(self, world: World, partitions: int) -> None:
        self.world, self.partitions = world, partitions
        self.logs: dict[tuple[str, int], list[LogRecord]] = {
            (topic, number): [] for topic in (INPUT, LETTERS, ALERTS, CHANGELOG) for number in range(partitions)
        }
        self.batch_records = 1 << 30  # so many go into one batch of a producer
        self.committed: dict[int, int] = {}
        self.signatures: dict[int, str] = {}  # committed beside the offsets
        self.bases = {f"{INPUT} 0": [0] * partitions}  # by identity of the input topic: how many records came before it
        self.missing: set[str] = set()
        self._late: list[tuple[int, Sequence[LogRecord]]] = []  # for a topic that is missing
        self.ids = {topic: f"{topic} 0" for topic in (INPUT, LETTERS, ALERTS, CHANGELOG)}
        self.on_append: Callable[[str, int, LogRecord], None] = lambda topic, partition, record: None
        self.on_commit: Callable[[int, int], None] = lambda partition, offset: None
        self.waiting: list[asyncio.Future[None]] = []  # for the next record of the input topic

    def log(self, topic: str, partition: int) -> list[LogRecord]:
        """The records of a partition."""
        return self.logs[topic, partition]

    def topic(self, name: str) -> Iterable[LogRecord]:
        """The records of all partitions of a topic, each in order."""
        return (record for number in range(self.partitions) for record in self.logs[name, number])

    def append(self, topic: str, partition: int, records: Sequence[LogRecord]) -> int:
        """Write at the end; returns the offset of the first."""
        if topic in self.missing:
            self._late.append((partition, records))
            return 0
        log = self.logs[topic, partition]
        first = len(log)
        for record in records:
            record.offset = len(log)
            if topic == INPUT:
                record.timestamp = int(self.world.true() * 1000)
            log.append(record)
            self.on_append(topic, partition, record)
        if topic == INPUT:
            waiting, self.waiting = self.waiting, []
            for one in waiting:
                if not one.done():
                    one.set_result(None)
        return first

    def topics(self, names: Iterable[str]) -> dict[str, TopicIdentity]:
        """What there is of them."""
        there = [name for name in names if name not in self.missing]
        return {name: TopicIdentity(self.ids[name], dict.fromkeys(range(self.partitions), 0)) for name in there}

    def number(self, partition: int, offset: int, signature: str = "") -> int:
        """How many records of a partition came before an offset of that log; of the log there is now, unsigned."""
        return offset + self.bases[signature.removeprefix("log=") or self.ids[INPUT]][partition]

    def drained(self, partition: int) -> bool:
        """Whether all there is has been committed."""
        same = self.signatures.get(partition, "").removeprefix("log=") in ("", self.ids[INPUT])
        return same and self.committed.get(partition, 0) == len(self.log(INPUT, partition)) and not self.missing

    def delete_input(self) -> None:
        """What comes from now on has to wait."""
        self.missing.add(INPUT)

    def make_input_anew(self, *, forget: bool) -> None:
        """With what nobody had committed, as its senders have it; `forget`: so are the offsets that were."""
        begin = [
            self.number(part, self.committed.get(part, 0), self.signatures.get(part, ""))
            for part in range(self.partitions)
        ]
        before, self.ids[INPUT] = self.bases[self.ids[INPUT]], f"{INPUT} {len(self.bases)}"
        self.bases[self.ids[INPUT]] = begin
        for partition, first in enumerate(begin):
            left = self.logs[INPUT, partition][first - before[partition] :]
            self.logs[INPUT, partition][:] = [replace(one, offset=offset) for offset, one in enumerate(left)]
        if forget:
            self.committed.clear()
            self.signatures.clear()
        self.missing.discard(INPUT)
        late, self._late = self._late, []
        for partition, records in late:
            self.append(INPUT, partition, records)

    def make_changelog_anew(self) -> None:
        """Make the changelog anew, empty."""
        self.ids[CHANGELOG] += "+"
        for partition in range(self.partitions):
            self.logs[CHANGELOG, partition].clear()

    def commit(self, offsets: dict[int, int], signatures: dict[int, str]) -> None:
        """Take committed offsets, and let the promises be checked."""
        self.signatures |= signatures
        for partition, offset in offsets.items():
            self.committed[partition] = offset
            self.on_commit(partition, self.number(partition, offset, signatures.get(partition, "")))


class Batch:
    """What `create_batch` gives; it takes so many records at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.records: list[LogRecord] = []

    def append(self, *, timestamp: int, key: Any, value: Any, headers: Any) -> object:
        if len(self.records) >= self._most:
            return None
        self.records.append(LogRecord(0, key, value, headers))
        return self

    def close(self) -> None: ...

    def record_count(self) -> int:
        return len(self.records)


class Acked(Struct):
    """Where a batch was written."""

    offset: int


class ProducerClient:
    """Stands in for AIOKafkaProducer; one connection, whose failure fails what is under way."""

    def __init__(self, kafka: Kafka, life: Life) -> None:
        self._kafka, self._life = kafka, life
        self._link: Link | None = None
        self._closed = False
        self.client = self._sender = self  # app.kafka.producer closes both

    async def start(self) -> None:
        if "kafka" in self._kafka.world.down:
            await asyncio.sleep(0.1)
            raise KafkaConnectionError("nobody answers")
        self._link = Link(self._kafka.world, self._life, "kafka")

    async def stop(self) -> None:
        await self.close()

    async def send(self, node: int, request: Any) -> None:
        raise AssertionError("nobody asks: messages are with the server as soon as they are handed over")

    async def close(self) -> None:
        if self._link is not None:
            self._link.close()

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(self._kafka.partitions))

    def create_batch(self) -> Any:
        return Batch(self._kafka.batch_records)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        assert isinstance(batch, Batch)
        assert self._link is not None
        records = batch.records
        for record in records:
            record.by = self._life.name
        return self._link.call(
            f"produce {len(records)} to {topic}/{partition}",
            lambda: self._append(topic, partition, records),
            seen=lambda: _note_seen(records),
        )

    def _append(self, topic: str, partition: int, records: list[LogRecord]) -> Acked:
        for record in records:
            record.zombie = self._life.zombie
        return Acked(self._kafka.append(topic, partition, records))


def _note_seen(records: Iterable[LogRecord]) -> None:
    for record in records:
        record.unseen = False


class TailClient:
    """Stands in for AIOKafkaConsumer as app.kafka.dead_letter_reader uses it."""

    def __init__(self, kafka: Kafka, life: Life) -> None:
        self._kafka, self._link = kafka, Link(kafka.world, life, "kafka")
        self._positions: dict[TopicPartition, int] = {}
        self._client = self  # app.kafka.close_clients closes it
        self._coordinator = self._fetcher = None

    async def start(self) -> None:
        if "kafka" in self._kafka.world.down:
            await asyncio.sleep(0.1)
            raise KafkaConnectionError("nobody answers")

    async def stop(self) -> None:
        self._link.close()

    close = stop

    def assign(self, tps: Iterable[TopicPartition]) -> None: ...

    async def beginning_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = await self._link.call(
            "ends of dead letters", lambda: {tp: len(self._kafka.log(tp.topic, tp.partition)) for tp in tps}
        )
        return found

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    async def getmany(self, tp: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[LogRecord]]:
        found: list[LogRecord] = await self._link.call(
            "read dead letters", lambda: self._kafka.log(tp.topic, tp.partition)[self._positions[tp] :]
        )
        self._positions[tp] += len(found)
        return {tp: found}
