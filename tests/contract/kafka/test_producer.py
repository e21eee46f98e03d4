"""The producer of all that a worker writes: in order, acked, patient with an outage until interrupted."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app.errors import TransientError
from app.kafka import close_clients
from app.kafka.access import Access
from app.kafka.messages import OutgoingMessage
from app.kafka.producer import Producer
from app.kafka.session_lease import SessionLease, boottime
from app.local.servers.kafka import Kafka
from tests.contract.stream.faust_worker import make_topic
from tests.servers import KafkaServer, server_directory
from tests.waiting import until

pytestmark = pytest.mark.integration


async def values(broker: str, topic: str, partition: int = 0) -> list[bytes | None]:
    async with AIOKafkaConsumer(bootstrap_servers=broker) as consumer:
        tp = TopicPartition(topic, partition)
        consumer.assign([tp])
        await consumer.seek_to_beginning(tp)
        end, found = (await consumer.end_offsets([tp]))[tp], []
        while await consumer.position(tp) < end:
            found += [record.value for record in (await consumer.getmany(tp, timeout_ms=1000)).get(tp, [])]
        return found


def numbered(first: int, following: int) -> list[OutgoingMessage]:
    return [OutgoingMessage(b"k", b"%d" % number, partition=0) for number in range(first, following)]


def expected(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


Make = Callable[[str], Producer]


@pytest.fixture
async def make(interrupt: asyncio.Event) -> AsyncIterator[Make]:
    made: list[Producer] = []

    def one(broker: str) -> Producer:
        made.append(Producer(Access(broker), "test", interrupt))
        return made[-1]

    yield one
    for producer in made:
        await producer.stop()
        await producer.stop()  # safe to call twice


@pytest.fixture
async def interrupt() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[Kafka]:
    """A broker of these tests alone, to freeze and to kill."""
    with server_directory() as directory:
        server = Kafka(directory)
        server.start()
        try:
            server.wait_ready()
            yield server
        finally:
            server.stop()


async def test_order_is_kept_and_offsets_come_back(kafka: KafkaServer, unique: str, make: Make) -> None:
    await make_topic(kafka.bootstrap, unique)
    producer = make(kafka.bootstrap)
    assert await producer.send(unique, []) == {}
    assert await producer.send(unique, numbered(0, 3000)) == {0: 2999}
    last = await asyncio.gather(*(producer.send(unique, numbered(n, n + 100)) for n in range(3000, 5000, 100)))
    assert last == [{0: n + 99} for n in range(3000, 5000, 100)]
    assert await values(kafka.bootstrap, unique) == expected(5000)
    assert await producer.partitions(unique) == 2


async def test_nothing_is_sent_while_the_lease_is_out(
    kafka: KafkaServer, unique: str, interrupt: asyncio.Event
) -> None:
    await make_topic(kafka.bootstrap, unique)
    lease = SessionLease(1e9, interrupt)
    producer = Producer(Access(kafka.bootstrap), "test", interrupt, lease=lease)
    try:
        sending = asyncio.create_task(producer.send(unique, numbered(0, 10)))
        await until(lambda: bool(lease._waiting))
        assert await values(kafka.bootstrap, unique) == []
        lease.renew(boottime())
        assert await sending == {0: 9}
        lease.end()
        sending = asyncio.create_task(producer.send(unique, numbered(10, 20)))
        await until(lambda: bool(lease._waiting))
        interrupt.set()
        with pytest.raises(TransientError, match="given the partitions to others"):
            await sending
    finally:
        await producer.stop()
    assert await values(kafka.bootstrap, unique) == expected(10)


class Gate:
    """A lease that ends when it has been asked once."""

    def __init__(self, interrupt: asyncio.Event) -> None:
        self.asked, self.lease = 0, SessionLease(1e9, interrupt)

    async def ensure(self) -> None:
        self.asked += 1
        if self.asked > 1:
            await self.lease.ensure()


@pytest.mark.parametrize("how", ["renewed", "given up", "stopped"])
async def test_what_the_client_has_taken_waits_for_the_lease(
    kafka: KafkaServer, unique: str, interrupt: asyncio.Event, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stall falls between handing over and sending."""
    await make_topic(kafka.bootstrap, unique)
    gate = Gate(interrupt)
    producer = Producer(Access(kafka.bootstrap), "test", interrupt, lease=gate)
    try:
        sending = asyncio.create_task(producer.send(unique, numbered(0, 10)))
        await until(lambda: bool(gate.lease._waiting))
        assert await values(kafka.bootstrap, unique) == []
        if how == "renewed":
            gate.lease.renew(boottime())
            assert await sending == {0: 9}
        elif how == "given up":
            interrupt.set()
            with pytest.raises(TransientError):
                await sending
        else:
            sending.cancel()
            await asyncio.wait({sending})
            monkeypatch.setattr(close_clients, "PRODUCER_SECONDS", 60.0)  # of a stop that waits for what is held
            async with asyncio.timeout(20):
                await producer.stop()
    finally:
        await producer.stop()
    assert await values(kafka.bootstrap, unique) == expected(10 if how == "renewed" else 0)


async def test_the_key_decides_where_no_partition_is_given(kafka: KafkaServer, unique: str, make: Make) -> None:
    """As Java's murmur2 does: whoever looks for the alerts of a device finds them where its key says."""
    await make_topic(kafka.bootstrap, unique, 12)
    producer = make(kafka.bootstrap)
    await producer.send(unique, [OutgoingMessage(b"u1/d1", b"a"), OutgoingMessage(b"u1/d1", b"b")])
    assert await values(kafka.bootstrap, unique, murmur2(b"u1/d1") % 12) == [b"a", b"b"]


def murmur2(data: bytes) -> int:
    """Kafka's partitioner: murmur2 with the sign bit off."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    for at in range(0, len(data) & ~3, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = h * m & mask ^ ((k ^ k >> 24) * m & mask)
    if rest := data[len(data) & ~3 :]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return (h ^ h >> 15) & 0x7FFFFFFF


async def test_messages_of_any_size_go_in_order(kafka: KafkaServer, unique: str, make: Make) -> None:
    """Some fill a request by themselves: a dead letter of the largest payload has 1.4 MB."""
    await make_topic(kafka.bootstrap, unique, max_message_bytes="2097152")
    sizes = [1, 200_000, 100_000, 1_500_000, 0, 10, 300_000, 1_500_000, 5]
    last = await make(kafka.bootstrap).send(unique, [OutgoingMessage(b"k", os.urandom(n), partition=0) for n in sizes])
    assert last == {0: len(sizes) - 1}
    assert [len(value or b"") for value in await values(kafka.bootstrap, unique)] == sizes


async def test_only_what_was_refused_is_sent_again(kafka: KafkaServer, unique: str, make: Make) -> None:
    """Partition 1 takes no message of that size until the topic is corrected; what partition 0 took stays alone."""
    await make_topic(kafka.bootstrap, unique, max_message_bytes="20000")
    large = [OutgoingMessage(b"k", b"0", partition=1), OutgoingMessage(b"k", os.urandom(100_000), partition=1)]
    sending = asyncio.create_task(make(kafka.bootstrap).send(unique, [*numbered(0, 50), *large]))
    async with asyncio.timeout(30):
        while not await values(kafka.bootstrap, unique):  # noqa: ASYNC110 - the broker notifies nobody
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.5)  # and some more tries
    assert not sending.done()
    await raise_limit(kafka.bootstrap, unique, 200_000)
    async with asyncio.timeout(60):
        assert await sending == {0: 49, 1: 1}
    assert await values(kafka.bootstrap, unique) == expected(50)
    assert [len(value or b"") for value in await values(kafka.bootstrap, unique, 1)] == [1, 100_000]


async def test_nothing_of_a_partition_is_written_past_a_batch_that_failed(
    kafka: KafkaServer, unique: str, make: Make
) -> None:
    """The second of three batches is too large: the third waits for it, and the first is not written again."""
    await make_topic(kafka.bootstrap, unique, max_message_bytes="300000")
    sizes = [200_000, 1_000_000, 100_000]
    messages = [OutgoingMessage(b"k", os.urandom(size), partition=0) for size in sizes]
    sending = asyncio.create_task(make(kafka.bootstrap).send(unique, messages))
    async with asyncio.timeout(30):
        while not await values(kafka.bootstrap, unique):  # noqa: ASYNC110 - the broker notifies nobody
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.5)  # and some more tries
    assert not sending.done()
    assert await values(kafka.bootstrap, unique) == [messages[0].value]
    await raise_limit(kafka.bootstrap, unique, 2_000_000)
    async with asyncio.timeout(60):
        assert await sending == {0: 2}
    assert await values(kafka.bootstrap, unique) == [one.value for one in messages]


async def raise_limit(broker: str, topic: str, size: int) -> None:
    """Let the topic take larger messages."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(size)})
        await admin.alter_configs([resource])
    finally:
        await admin.close()


async def test_key_value_and_headers_arrive_as_given(kafka: KafkaServer, unique: str, make: Make) -> None:
    await make_topic(kafka.bootstrap, unique)
    await make(kafka.bootstrap).send(
        unique, [OutgoingMessage(None, None, partition=1), OutgoingMessage(b"", b"", [("h", b"\xff")], 1)]
    )
    async with AIOKafkaConsumer(unique, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest") as consumer:
        first, second = [await consumer.getone() for _ in range(2)]
    assert (first.key, first.value, first.headers) == (None, None, ())
    assert (second.key, second.value, second.headers) == (b"", b"", (("h", b"\xff"),))


async def test_a_topic_that_is_made_later_is_waited_for(kafka: KafkaServer, unique: str, make: Make) -> None:
    producer = make(kafka.bootstrap)
    send = asyncio.create_task(producer.send(unique, numbered(0, 1)))
    count = asyncio.create_task(producer.partitions(unique))
    await asyncio.sleep(0.5)
    assert not send.done()
    assert not count.done()
    await make_topic(kafka.bootstrap, unique)
    assert await asyncio.wait_for(send, 15) == {0: 0}
    assert await asyncio.wait_for(count, 15) == 2


async def test_interrupted_though_the_topic_is_missing(
    kafka: KafkaServer, unique: str, make: Make, interrupt: asyncio.Event
) -> None:
    send = asyncio.create_task(make(kafka.bootstrap).send(unique, numbered(0, 1)))
    await asyncio.sleep(0.5)
    interrupt.set()
    with pytest.raises(TransientError, match=rf"interrupted while waiting for Kafka.*no topic {unique}"):
        await asyncio.wait_for(send, 5)


async def test_interrupted_though_nobody_listens(make: Make, interrupt: asyncio.Event, unique: str) -> None:
    producer = make("127.0.0.1:1")
    send = asyncio.create_task(producer.send(unique, numbered(0, 1)))
    await asyncio.sleep(0.5)
    assert not send.done()
    interrupt.set()
    with pytest.raises(TransientError):
        await asyncio.wait_for(send, 10)


async def test_a_frozen_broker_is_waited_out(own_kafka: Kafka, unique: str, make: Make) -> None:
    await make_topic(own_kafka.bootstrap, unique)
    producer = make(own_kafka.bootstrap)
    await producer.send(unique, numbered(0, 10))
    os.kill(own_kafka.pid, signal.SIGSTOP)
    try:
        send = asyncio.create_task(producer.send(unique, numbered(10, 20)))
        await asyncio.sleep(1.5)
        assert not send.done()
    finally:
        os.kill(own_kafka.pid, signal.SIGCONT)
    assert await asyncio.wait_for(send, 20) == {0: 19}
    assert await values(own_kafka.bootstrap, unique) == expected(20)


async def test_a_send_to_a_frozen_broker_ends_when_cancelled_and_so_does_stop(
    own_kafka: Kafka, unique: str, make: Make
) -> None:
    """The end of a drain: a stop must not wait for the broker."""
    await make_topic(own_kafka.bootstrap, unique)
    producer = make(own_kafka.bootstrap)
    await producer.send(unique, numbered(0, 10))
    os.kill(own_kafka.pid, signal.SIGSTOP)
    try:
        send = asyncio.create_task(producer.send(unique, numbered(10, 20)))
        await asyncio.sleep(0.2)
        send.cancel()
        with pytest.raises(asyncio.CancelledError):
            await send
        started = time.monotonic()
        await asyncio.wait_for(producer.stop(), 15)
        assert time.monotonic() - started < 10
    finally:
        os.kill(own_kafka.pid, signal.SIGCONT)


async def test_a_broker_that_is_killed_and_comes_back_is_waited_out(own_kafka: Kafka, unique: str, make: Make) -> None:
    await make_topic(own_kafka.bootstrap, unique)
    producer = make(own_kafka.bootstrap)
    await producer.send(unique, numbered(0, 10))
    own_kafka.kill()
    send = asyncio.create_task(producer.send(unique, numbered(10, 20)))
    await asyncio.sleep(0.5)
    assert not send.done()
    own_kafka.start()
    await asyncio.to_thread(own_kafka.wait_ready)
    assert list(await asyncio.wait_for(send, 30)) == [0]
    found = await values(own_kafka.bootstrap, unique)
    assert list(dict.fromkeys(found)) == expected(20)
