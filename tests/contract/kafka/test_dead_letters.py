"""Dead letters on a real Kafka: each record's once, over crashes between its ack and the commit."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from app.core.batch.batch import Batch
from app.core.deadletters.limit import DeadLetterLimit
from app.core.model.records import Reason, Record, Rejected, Stage, sink_stage
from app.errors import DeadLetterLimitError, TransientError
from app.kafka.access import Access
from app.kafka.dead_letter_reader import STEP, DeadLetterTail, RecentDeadLetters
from app.kafka.dead_letters import KafkaDeadLetters
from app.kafka.messages import OutgoingMessage
from app.kafka.producer import Producer
from tests.contract.stream import faust_worker as fw
from tests.servers import KafkaServer
from tests.unit.records import Message

pytestmark = pytest.mark.integration


class Given:
    """A batch as far as dead letters look at it."""

    def __init__(self, first: int, following: int, partition: int = 0, epoch: int = 1, topic: str = "in") -> None:
        self.topic, self.partition, self.epoch = topic, partition, epoch
        self.first_offset, self.next_offset = first, following
        self.records: Sequence[Record] = [Message(b"bad %d" % n, offset=n) for n in range(first, following)]

    def current(self) -> bool:
        return True

    async def ack(self) -> None:
        raise AssertionError("only the pipeline acks")


def rejected(batch: Batch, *, every: int = 1) -> list[Rejected]:
    return [Rejected(record, Reason.BAD_JSON, Stage.DECODE, "x") for record in batch.records[::every]]


class Subject:
    """A dead-letter topic; `process` begins another process: nothing is remembered but by Kafka."""

    def __init__(self, kafka: KafkaServer, topic: str) -> None:
        self.kafka, self.topic = kafka, topic
        self.interrupt = asyncio.Event()
        self.producers: list[Producer] = []

    def process(
        self, topic: str = "", limit: DeadLetterLimit | None = None, sink: str | None = None
    ) -> KafkaDeadLetters:
        topic = topic or self.topic
        self.producers.append(Producer(Access(self.kafka.bootstrap), "test", self.interrupt))
        tail = DeadLetterTail(Access(self.kafka.bootstrap), topic, self.interrupt, sink)
        return KafkaDeadLetters(self.producers[-1], topic, tail, limit)

    async def letters(self, partition: int = 0) -> list[ConsumerRecord]:
        async with AIOKafkaConsumer(bootstrap_servers=self.kafka.bootstrap) as consumer:
            tp = TopicPartition(self.topic, partition)
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            end, found = (await consumer.end_offsets([tp]))[tp], []
            while await consumer.position(tp) < end:
                found += (await consumer.getmany(tp, timeout_ms=1000)).get(tp, [])
            return found

    async def offsets(self, partition: int = 0) -> list[int]:
        return [msgspec.json.decode(letter.value)["source"]["offset"] for letter in await self.letters(partition)]


@pytest.fixture
async def subject(kafka: KafkaServer, unique: str) -> AsyncIterator[Subject]:
    await fw.make_topic(kafka.bootstrap, unique)
    subject = Subject(kafka, unique)
    yield subject
    for producer in subject.producers:
        await producer.stop()


async def test_letters_come_in_order_with_their_reason_in_their_partition(subject: Subject) -> None:
    batch = Given(5, 8, partition=1)
    await subject.process().send(batch, rejected(batch))
    found = await subject.letters(1)
    assert [letter.key for letter in found] == [b"u1/d1"] * 3
    assert all(("reason", b"bad_json") in letter.headers for letter in found)
    source = msgspec.json.decode(found[0].value)["source"]
    assert source == {"topic": "in", "partition": 1, "offset": 5, "key": "u1/d1"}
    assert await subject.letters(0) == []


async def test_a_batch_without_rejected_records_asks_nothing_of_kafka(subject: Subject) -> None:
    subject.kafka = Unreachable()
    await subject.process().send(Given(0, 3), [])


class Unreachable:
    bootstrap = "127.0.0.1:1"


async def test_a_crash_before_the_commit_repeats_none(subject: Subject) -> None:
    batch = Given(100, 110)
    await subject.process().send(batch, rejected(batch))
    await subject.process().send(batch, rejected(batch))
    assert await subject.offsets() == list(range(100, 110))


async def test_a_crash_in_the_middle_sends_what_is_missing(subject: Subject) -> None:
    batch = Given(100, 110)
    await subject.process().send(batch, rejected(batch)[:4])
    again = Given(95, 120)  # cut otherwise the second time
    await subject.process().send(again, rejected(again))
    assert sorted(await subject.offsets()) == list(range(95, 120))


async def test_more_newer_letters_than_are_read_at_first(subject: Subject) -> None:
    """An earlier owner of the partition got far, and its commit did not."""
    count = STEP + 500
    batch = Given(0, count)
    await subject.process().send(batch, rejected(batch))
    process = subject.process()
    for first in range(0, count, 500):
        again = Given(first, first + 500)
        await process.send(again, rejected(again))
    assert await subject.offsets() == list(range(count))


async def test_letters_of_others_in_between_hide_none(subject: Subject) -> None:
    mine, other = Given(0, 10), Given(0, STEP + 100, topic="another")
    first = subject.process()
    await first.send(mine, rejected(mine))
    await first.send(other, rejected(other))
    noise = Producer(Access(subject.kafka.bootstrap), "test", subject.interrupt)
    subject.producers.append(noise)
    await noise.send(
        subject.topic, [OutgoingMessage(b"k", b"no envelope", partition=0), OutgoingMessage(None, None, partition=0)]
    )
    await subject.process().send(mine, rejected(mine))
    assert len(await subject.letters()) == 10 + STEP + 100 + 2


async def test_after_a_rebalance_the_topic_is_asked_again(subject: Subject) -> None:
    """Somebody else has had the partition meanwhile."""
    present, there = subject.process(), subject.process()
    first, second = Given(0, 5), Given(5, 10)
    await present.send(first, rejected(first))
    await there.send(second, rejected(second))
    back = Given(5, 15, epoch=2)
    await present.send(back, rejected(back))
    assert await subject.offsets() == list(range(15))


async def test_within_an_epoch_the_topic_is_asked_once(subject: Subject) -> None:
    process = subject.process()
    reads: list[int] = []
    read = process._tail.read

    async def counted(topic: str, partition: int, partitions: Sequence[int], first: int) -> RecentDeadLetters:
        reads.append(first)
        return await read(topic, partition, partitions, first)

    process._tail.read = counted  # type: ignore[assignment, method-assign]
    for first in range(0, 30, 10):
        batch = Given(first, first + 10)
        await process.send(batch, rejected(batch, every=3))
    assert reads == [0]


def delivered(offset: int, payload: bytes, packet_id: int, *, again: bool = False) -> Message:
    headers = [("mqtt_topic", b"users/u/devices/d/telemetry"), ("mqtt_id", b"%d" % packet_id)]
    return Message(payload, offset=offset, headers=[*headers, ("mqtt_dup", b"1")] if again else headers)


@pytest.mark.parametrize("same_process", [True, False])
async def test_a_message_redelivered_over_mqtt_is_one_dead_letter(subject: Subject, same_process: bool) -> None:
    """The bridge died between Kafka's ack and its own; equal messages that are not redelivered are all kept."""
    process = subject.process()
    batch = Given(0, 3)
    batch.records = [delivered(0, b"bad", 1), delivered(1, b"bad", 2), delivered(2, b"bad", 1)]
    await process.send(batch, rejected(batch))
    again = Given(3, 6)
    again.records = [delivered(n, b"bad", packet_id, again=True) for n, packet_id in ((3, 1), (4, 2), (5, 3))]
    await (process if same_process else subject.process()).send(again, rejected(again))
    assert await subject.offsets() == [0, 1, 2, 5]


async def test_another_record_at_the_same_offset_is_another_dead_letter(subject: Subject) -> None:
    """The input topic was made anew."""
    batch = Given(0, 3)
    await subject.process().send(batch, rejected(batch))
    anew = Given(0, 3)
    anew.records = [Message(b"different", offset=n) for n in range(3)]
    await subject.process().send(anew, rejected(anew))
    assert await subject.offsets() == [0, 1, 2, 0, 1, 2]


async def test_a_topic_with_fewer_partitions_is_used_by_key_and_read_back_whole(subject: Subject) -> None:
    batch = Given(0, 6, partition=7)
    batch.records = [Message(b"bad", key=b"u/d%d" % n, offset=n) for n in range(6)]
    await subject.process().send(batch, rejected(batch))
    places = [await subject.offsets(partition) for partition in (0, 1)]
    assert all(places)
    await subject.process().send(batch, rejected(batch))
    assert [await subject.offsets(partition) for partition in (0, 1)] == places


def of_many_users(first: int, following: int, users: int = 10**6) -> Given:
    batch = Given(first, following)
    batch.records = [
        Message(
            b"bad %d" % n,
            [("mqtt_topic", b"users/u%d/devices/d%d/telemetry" % (n % users, n))],
            offset=n,
            key=b"%d" % n,
        )
        for n in range(first, following)
    ]
    return batch


async def test_over_the_limit_none_of_the_batch_is_sent_and_a_restart_counts_on(subject: Subject) -> None:
    first, second = of_many_users(0, 60), of_many_users(60, 120)
    process = subject.process(limit=DeadLetterLimit(100, 1.0, 10**6))
    await process.send(first, rejected(first))
    for _ in range(2):
        with pytest.raises(DeadLetterLimitError, match=r"bad_json 101.*in-0 offset (60|50).*IOT_DEAD_LETTERS_IN_A_ROW"):
            await process.send(second, rejected(second))
        assert await subject.offsets() == list(range(60))
        process = subject.process(limit=DeadLetterLimit(100, 1.0, 10**6))  # starts again
        second = of_many_users(50, 120)  # and what was not committed comes again
    await subject.process().send(second, rejected(second))
    assert await subject.offsets() == list(range(120))


async def test_what_one_user_has_on_the_topic_counts_for_a_tenth_after_a_restart(subject: Subject) -> None:
    batches = [of_many_users(0, 60, users=1), of_many_users(60, 260, users=2)]
    for batch in batches:
        limit = DeadLetterLimit(100, 1.0, 10**6, users=lambda: ["alice", "bob"])
        await subject.process(limit=limit).send(batch, rejected(batch))
    assert limit.row == 20
    assert len(await subject.offsets()) == 260


async def test_good_records_between_the_last_dead_letters_and_now_end_the_row(subject: Subject) -> None:
    first, second = of_many_users(0, 60), of_many_users(61, 121)
    await subject.process(limit=DeadLetterLimit(100, 1.0, 10**6)).send(first, rejected(first))
    await subject.process(limit=DeadLetterLimit(100, 1.0, 10**6)).send(second, rejected(second))
    assert len(await subject.offsets()) == 120


async def test_a_record_has_one_dead_letter_of_the_worker_and_one_of_each_sink(subject: Subject) -> None:
    batch = Given(0, 3)

    def refused(sink: str) -> list[Rejected]:
        return [Rejected(record, Reason.SINK_REFUSED, sink_stage(sink), "no") for record in batch.records]

    for _ in range(2):
        await subject.process(sink="a").send(batch, refused("a"))
        await subject.process(sink="b").send(batch, refused("b"))
        await subject.process().send(batch, rejected(batch))
    stages = [msgspec.json.decode(letter.value)["stage"] for letter in await subject.letters()]
    assert stages == ["sink:a"] * 3 + ["sink:b"] * 3 + ["decode"] * 3


async def test_gives_up_when_interrupted(subject: Subject) -> None:
    batch = Given(0, 3)
    subject.kafka = Unreachable()
    send = asyncio.create_task(subject.process().send(batch, rejected(batch)))
    await asyncio.sleep(0.3)
    assert not send.done()
    subject.interrupt.set()
    with pytest.raises(TransientError, match="interrupted"):
        await asyncio.wait_for(send, 5)


async def test_reading_back_gives_up_when_interrupted() -> None:
    interrupt = asyncio.Event()
    read = asyncio.create_task(DeadLetterTail(Access("127.0.0.1:1"), "t", interrupt).read("in", 0, [0], 0))
    await asyncio.sleep(0.3)
    interrupt.set()
    with pytest.raises(TransientError):
        await asyncio.wait_for(read, 10)
