"""The writer on a cluster in memory: blocks go as they are, and what fails goes again, in order, record by record."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from aiokafka.errors import MessageSizeTooLargeError, NotLeaderForPartitionError
from aiokafka.record.default_records import DefaultRecordBatch
from msgspec import Struct

from app.core.model.headers import REDELIVERED
from app.gateways import writer as writing
from app.gateways.blocks.record_block import RecordBlock, joined
from app.gateways.record import IngestRecord
from app.gateways.writer import KafkaWriter
from app.kafka.access import Access
from app.kafka.encoding.record_batch import RecordBatch
from app.kafka.producer import IdempotentProducer
from tests.unit.gateways.blocks.test_record_block import block
from tests.unit.gateways.intake_world import record

TOPIC, DEAD = "iot", "iot-dlq"
DEVICES = [f"d{number}" for number in range(20)]


class Stored(Struct, frozen=True):
    """A record in a log."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class MemoryCluster:
    """Logs by topic and partition; `judge` says of each batch why it is not taken."""

    def __init__(self, partitions: int = 3) -> None:
        self.count = partitions
        self.logs: dict[tuple[str, int], list[Stored]] = {}
        self.batches: list[tuple[str, int, int]] = []  # topic, partition, records
        self.judge: Callable[[str, int, Sequence[Stored]], Exception | None] = lambda *_: None

    async def partitions_for(self, topic: str) -> set[int]:
        """As AIOKafkaProducer."""
        return set(range(self.count))

    async def send_batch(self, batch: RecordBatch, topic: str, *, partition: int) -> "asyncio.Future[None]":
        """As AIOKafkaProducer: the future is done once the batch is taken, or not."""
        read: Any = DefaultRecordBatch(batch._build())
        found = [Stored(one.key, one.value, one.headers) for one in read]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if error := self.judge(topic, partition, found):
            done.set_exception(error)
        else:
            self.logs.setdefault((topic, partition), []).extend(found)
            self.batches.append((topic, partition, len(found)))
            done.set_result(None)
        return done

    async def connected(self) -> "MemoryCluster":
        """As IdempotentProducer."""
        return self

    async def close(self) -> None:
        """As IdempotentProducer."""

    def of(self, topic: str) -> dict[bytes, list[bytes]]:
        """The values of each key, in order."""
        found: dict[bytes, list[bytes]] = {}
        for (name, _), log in sorted(self.logs.items()):
            for one in log if name == topic else ():
                found.setdefault(one.key, []).append(one.value)
        return found


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


@pytest.fixture
def writer(cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch) -> KafkaWriter:
    monkeypatch.setattr(writing, "delay", lambda _: 0.0)
    made = KafkaWriter(Access("127.0.0.1:1"), "test", TOPIC, DEAD)
    made._producer = cast(IdempotentProducer, cluster)
    return made


def parts() -> list[Sequence[IngestRecord]]:
    """Two blocks, and records that came one by one between them."""
    return [
        block(DEVICES * 5, [b"1-%03d" % number for number in range(100)]),
        [record("alice", device, b"2-%03d" % number) for number, device in enumerate(DEVICES)],
        block(DEVICES * 2, [b"3-%03d" % number for number in range(40)]),
    ]


def untouched(given: list[Sequence[IngestRecord]]) -> bool:
    return all(one.untouched for one in given if type(one) is RecordBlock)


def expected(given: list[Sequence[IngestRecord]]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for part in given:
        for one in part:
            found.setdefault(one.key, []).append(one.value)
    return found


async def test_blocks_are_written_in_order_and_none_of_their_records_is_made(
    cluster: MemoryCluster, writer: KafkaWriter
) -> None:
    given = parts()
    assert await writer.write(joined(given)) == []
    assert untouched(given)
    assert len(cluster.batches) == 3, "one batch a partition"
    assert cluster.of(TOPIC) == expected(given)
    stored = {(one.key, one.value): one.headers for log in cluster.logs.values() for one in log}
    assert stored == {(one.key, one.value): one.headers for part in given for one in part}


async def test_what_fails_goes_again_in_order_and_says_that_it_may_be_there(
    cluster: MemoryCluster, writer: KafkaWriter
) -> None:
    failures = iter([True, True])

    def judge(_: str, partition: int, __: Sequence[Stored]) -> Exception | None:
        return NotLeaderForPartitionError() if partition == 1 and next(failures, False) else None

    cluster.judge = judge
    given = parts()
    assert await writer.write(joined(given)) == []
    assert cluster.of(TOPIC) == expected(given)
    for (_, partition), log in cluster.logs.items():
        assert log
        assert all(((REDELIVERED, b"1") in one.headers) is (partition == 1) for one in log)


async def test_a_record_that_kafka_refuses_for_ever_is_the_block_s_own(
    cluster: MemoryCluster, writer: KafkaWriter
) -> None:
    given = parts()
    too_large = b"3-007"

    def judge(topic: str, _: int, found: Sequence[Stored]) -> Exception | None:
        return MessageSizeTooLargeError() if topic == TOPIC and too_large in [one.value for one in found] else None

    cluster.judge = judge
    (refused,) = await writer.write(joined(given))
    assert refused is given[2][7]
    left = expected(given)
    left[refused.key].remove(too_large)
    assert cluster.of(TOPIC) == left
    assert [len(values) for values in cluster.of(DEAD).values()] == [1]


async def test_more_than_goes_into_one_batch_goes_in_several(cluster: MemoryCluster, writer: KafkaWriter) -> None:
    cluster.count = 1
    given: list[Sequence[IngestRecord]] = [block(DEVICES, [b"%03d" % at + bytes(99_000) for at in range(20)])] * 2
    assert await writer.write(joined(given)) == []
    assert untouched(given)
    assert [count for _, _, count in cluster.batches] == [5] * 8
    assert cluster.of(TOPIC) == expected(given)


async def test_a_topic_that_has_grown_takes_blocks_by_its_new_partitions(
    cluster: MemoryCluster, writer: KafkaWriter
) -> None:
    await writer.write(joined(parts()))
    cluster.count, cluster.logs = 6, {}
    given = parts()
    await writer.write(joined(given))
    assert cluster.of(TOPIC) == expected(given)
    assert len(cluster.logs) > 3


async def test_a_topic_that_grows_while_a_write_fails_loses_nothing(
    cluster: MemoryCluster, writer: KafkaWriter
) -> None:
    first = iter([True] * 3)

    def judge(*_: object) -> Exception | None:
        cluster.count = 4
        return NotLeaderForPartitionError() if next(first, False) else None

    cluster.judge = judge
    given = parts()
    assert await writer.write(joined(given)) == []
    found = {key: sorted(values) for key, values in cluster.of(TOPIC).items()}
    assert found == {key: sorted(values) for key, values in expected(given).items()}


async def test_a_record_that_has_got_a_header_of_its_own_is_written_with_it(
    cluster: MemoryCluster, writer: KafkaWriter
) -> None:
    given = parts()
    given[0][3].headers.append(("traceparent", b"of its span"))
    await writer.write(joined(given))
    written = [one for log in cluster.logs.values() for one in log if one.value == b"1-003"]
    assert [one.headers for one in written] == [given[0][3].headers]
    assert cluster.of(TOPIC) == expected(given)
