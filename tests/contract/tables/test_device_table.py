"""Device states in a real worker: what was written is there after a restart, with its directory and without."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import rocksdict
from aiokafka import AIOKafkaConsumer, TopicPartition
from structlog.testing import capture_logs

from app.core.state.device_state import DeviceState, encode
from app.core.state.keys import MARK_KEY
from app.errors import TransientError
from app.kafka.access import Access
from app.kafka.messages import OutgoingMessage
from app.kafka.producer import Producer
from app.kafka.topic_ids import TopicIds
from app.tables.device_table import FaustStates
from tests.contract.stream import faust_worker as fw
from tests.contract.stream.faust_worker import Worker
from tests.servers import KafkaServer
from tests.waiting import until

pytestmark = pytest.mark.integration
MANY = {b"u/d%d" % n: b"state %d" % n for n in range(500)}


class Subject:
    """A fleet `name`; `process` is one life of its only worker."""

    def __init__(self, kafka: KafkaServer, name: str, directory: Path) -> None:
        self.kafka, self.name, self.directory = kafka, name, directory
        self.changelog = f"iot-{name}-state-changelog"
        self.ids: TopicIds | None = None

    async def make_topics(self) -> None:
        await fw.make_topic(self.kafka.bootstrap, self.name)
        await fw.make_topic(self.kafka.bootstrap, self.changelog, cleanup_policy="compact")

    @asynccontextmanager
    async def process(self, directory: str = "first") -> AsyncIterator[FaustStates]:
        interrupt = asyncio.Event()
        producer = Producer(Access(self.kafka.bootstrap), "test", interrupt)
        worker = Worker(self.kafka.bootstrap, self.name, self.name, self.directory / directory)
        worker.transport.logs.ids = self.ids
        states = FaustStates(worker.app, 2, producer)
        self.interrupt, self.app = interrupt, worker.app
        try:
            async with worker:
                await until(lambda: len(worker.partitions) == 2, 30)
                yield states
                assert worker.app.reason is None
        finally:
            await producer.stop()

    def database(self, directory: str, partition: int) -> Path:
        (found,) = (self.directory / directory).rglob(f"state-{partition}.db")
        return found


@pytest.fixture
def subject(kafka: KafkaServer, unique: str, tmp_path: Path) -> Subject:
    return Subject(kafka, unique, tmp_path)


async def test_states_are_read_back_at_once_each_in_its_partition(subject: Subject) -> None:
    await subject.make_topics()
    async with subject.process() as states:
        assert states.get(0, b"u/d1") is None
        await states.put({0: {b"u/d1": b"one", b"\0applied": b"7"}})
        await states.put({1: {b"u/d1": b"\xff\0"}})
        await states.put({0: {}})
        assert [states.get(0, b"u/d1"), states.get(1, b"u/d1")] == [b"one", b"\xff\0"]
        assert states.get(0, b"\0applied") == b"7"
        assert (states.persisted_offset(0), states.persisted_offset(1)) == (1, 0)
        await states.put({0: {b"u/d1": b"two"}})
        assert states.get(0, b"u/d1") == b"two"
        assert states.persisted_offset(0) == 2


async def test_nobody_but_recovery_fetches_the_changelog(subject: Subject) -> None:
    """Faust pauses a partition for its own polls alone: its client would fetch the changelog, and keep it."""
    await subject.make_topics()
    async with subject.process() as states:
        client = subject.app.consumer._thread._consumer
        assert {(tp.topic, tp.partition) for tp in client.paused()} == {(subject.changelog, 0), (subject.changelog, 1)}
        await states.put({0: MANY})


@pytest.mark.parametrize("directory", ["first", "another"])
async def test_states_are_there_in_the_next_process(subject: Subject, directory: str) -> None:
    """With its old directory, and with an empty one, from the changelog."""
    await subject.make_topics()
    async with subject.process() as states:
        await states.put({0: MANY})
        await states.put({0: {b"u/d1": b"newer"}})
        await states.put({1: {b"v/d1": b"other"}})
    async with subject.process(directory) as states:
        assert {key: states.get(0, key) for key in MANY} == MANY | {b"u/d1": b"newer"}
        assert (states.get(1, b"v/d1"), states.get(1, b"u/d2")) == (b"other", None)
        assert states.persisted_offset(0) == 500
        await states.put({0: {b"u/d2": b"newest"}})
    async with subject.process("first") as states:
        assert (states.get(0, b"u/d1"), states.get(0, b"u/d2")) == (b"newer", b"newest")


async def test_states_acked_by_the_changelog_alone_are_there(subject: Subject) -> None:
    """A crash between the changelog's ack and the write to RocksDB."""
    await subject.make_topics()
    async with subject.process() as states:
        await states.put({0: {b"u/d1": b"one", b"u/d2": b"two"}})
    producer = Producer(Access(subject.kafka.bootstrap), "test", asyncio.Event())
    await producer.send(subject.changelog, [OutgoingMessage(b"u/d1", b"late", partition=0)])
    await producer.stop()
    async with subject.process() as states:
        assert (states.get(0, b"u/d1"), states.get(0, b"u/d2")) == (b"late", b"two")
        assert states.persisted_offset(0) == 2


async def read(subject: Subject, partition: int) -> list[tuple[bytes | None, bytes | None]]:
    """The changelog of a partition."""
    tp = TopicPartition(subject.changelog, partition)
    async with AIOKafkaConsumer(bootstrap_servers=subject.kafka.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        found: list[tuple[bytes | None, bytes | None]] = []
        while len(found) < end:
            found += [
                (record.key, record.value) for record in (await consumer.getmany(tp, timeout_ms=1000)).get(tp, [])
            ]
    return found


async def test_an_older_state_of_a_stalled_worker_replaces_none_and_is_written_over(subject: Subject) -> None:
    """The stalled worker writes behind the owner's state, where the offset waits; recovery repeats the newer state."""
    await subject.make_topics()
    older, newer, newest = (encode(DeviceState(offset)) for offset in (5, 9, 12))
    stalled = Producer(Access(subject.kafka.bootstrap), "stalled", asyncio.Event())
    with capture_logs() as logs:
        async with subject.process() as states:
            await states.put({0: {b"u/d1": newer, MARK_KEY: b"9"}})
            await stalled.send(
                subject.changelog,
                [OutgoingMessage(b"u/d1", older, partition=0), OutgoingMessage(MARK_KEY, b"5", partition=0)],
            )
            for value in (newest, newest):
                await states.put({0: {b"u/d2": value}, 1: {b"v/d1": value}})
            assert states.get(0, b"u/d1") == newer
            assert (states.persisted_offset(0), states.persisted_offset(1)) == (1, 1)
    await stalled.stop()
    (reported,) = [line for line in logs if line["event"] == "state_changelog_shared"]
    assert (reported["partition"], reported["foreign_records"]) == (0, 2)
    for directory in ("first", "another"):
        async with subject.process(directory) as states:
            assert [states.get(0, key) for key in (b"u/d1", b"u/d2", MARK_KEY)] == [newer, newest, b"9"]
            assert states.persisted_offset(0) == 5
    async with subject.process("third") as states:
        await states.put({0: {b"u/d2": newest}})
        assert states.persisted_offset(0) == 8
        await states.put({0: {b"u/d2": newest}})
        assert states.persisted_offset(0) == 9
    written = await read(subject, 0)
    assert written[6:] == [(b"u/d1", newer), (b"u/d2", newest), (MARK_KEY, b"9"), (b"u/d2", newest)]


async def test_two_that_take_turns_do_not_take_each_other_for_stalled(subject: Subject) -> None:
    await subject.make_topics()
    with capture_logs() as logs:
        for turn in range(4):
            async with subject.process(f"directory {turn % 2}") as states:
                for offset in range(3):
                    await states.put({0: {b"u/d1": encode(DeviceState(10 * turn + offset))}})
                assert states.persisted_offset(0) == 3 * turn + 2
    assert not [line for line in logs if line["event"] == "state_changelog_shared"]


async def test_a_corrupt_database_is_rebuilt_from_the_changelog(subject: Subject) -> None:
    await subject.make_topics()
    async with subject.process() as states:
        await states.put({0: MANY})
        await states.put({1: {b"v/d1": b"other"}})
    (table,) = subject.database("first", 0).glob("CURRENT")
    manifest = table.parent / table.read_text().strip()
    manifest.write_bytes(b"\xde\xad\xbe\xef" * (manifest.stat().st_size // 4))
    with pytest.raises(Exception, match="Corruption"):
        rocksdict.Rdict(str(table.parent), rocksdict.Options(raw_mode=True))
    async with subject.process() as states:
        assert {key: states.get(0, key) for key in MANY} == MANY
        assert states.get(1, b"v/d1") == b"other"


async def test_a_changelog_made_anew_gets_the_states_there_are(subject: Subject) -> None:
    """The states may be the only copy. What another worker wrote meanwhile counts where that worker has seen more."""
    await subject.make_topics()
    async with subject.process() as states:
        await states.put({0: MANY, 1: {b"v/d1": b"other"}})
        await states.put({0: {b"u/d1": encode(DeviceState(7)), b"u/d2": encode(DeviceState(7))}})
    await fw.remake_topic(subject.kafka.bootstrap, subject.changelog, cleanup_policy="compact")
    newer, older = encode(DeviceState(8)), encode(DeviceState(6))
    producer = Producer(Access(subject.kafka.bootstrap), "test", asyncio.Event())
    rest = [OutgoingMessage(b"u/d1", newer, partition=0), OutgoingMessage(b"u/d2", older, partition=0)]
    await producer.send(subject.changelog, rest)
    await producer.stop()
    known = MANY | {b"u/d1": newer, b"u/d2": encode(DeviceState(7))}
    for directory in ("first", "first", "another"):
        async with subject.process(directory) as states:
            assert {key: states.get(0, key) for key in known} == known
            assert states.get(1, b"v/d1") == b"other"
            assert (states.persisted_offset(0), states.persisted_offset(1)) == (501, 0)
    written = await read(subject, 0)
    assert (len(written), dict(written)) == (502, known)


async def test_a_changelog_that_has_grown_past_the_old_one_is_distinguished_by_its_id(subject: Subject) -> None:
    subject.ids = TopicIds(Access(subject.kafka.bootstrap))
    await subject.make_topics()
    async with subject.process() as states:
        await states.put({0: {b"u/d1": b"one", b"u/d2": b"two"}})
    await fw.remake_topic(subject.kafka.bootstrap, subject.changelog, cleanup_policy="compact")
    async with subject.process("another") as states:
        for _ in range(3):
            await states.put({0: {b"u/d3": b"three"}})
    async with subject.process() as states:
        assert [states.get(0, b"u/d%d" % n) for n in (1, 2, 3)] == [b"one", b"two", b"three"]
    async with subject.process("third") as states:
        assert [states.get(0, b"u/d%d" % n) for n in (1, 2, 3)] == [b"one", b"two", b"three"]
    await subject.ids.close()


async def test_a_changelog_made_anew_under_a_running_worker_gets_all_it_has(subject: Subject) -> None:
    await subject.make_topics()
    async with subject.process() as states:
        await states.put({0: MANY, 1: {b"v/d1": b"other"}})
        await fw.remake_topic(subject.kafka.bootstrap, subject.changelog, cleanup_policy="compact")
        await states.put({0: {b"u/d1": b"newer"}})
        assert states.begun_anew == {0}
        await states.move(0, "new", lambda: False)
        assert states.begun_anew == {0}, "the partition is another worker's now"
        for partition in (0, 1):
            await states.move(partition, "new")
        assert states.begun_anew == set()
        await states.put({0: {b"u/d2": b"newest"}})
        assert (states.persisted_offset(0), states.persisted_offset(1)) == (501, 0)
    async with subject.process("another") as states:
        assert {key: states.get(0, key) for key in MANY} == MANY | {b"u/d1": b"newer", b"u/d2": b"newest"}
        assert states.get(1, b"v/d1") == b"other"


async def test_records_of_others_in_the_changelog_are_left_out(subject: Subject) -> None:
    """With a key that the database keeps for itself; one without any is refused by Kafka, as the topic is compacted."""
    await subject.make_topics()
    producer = Producer(Access(subject.kafka.bootstrap), "test", asyncio.Event())
    keys = [b"__faust\0offset__", b"__faust\0log__", b"\xff\xfe"]
    await producer.send(subject.changelog, [OutgoingMessage(key, b"999", partition=0) for key in keys])
    await producer.stop()
    async with subject.process() as states:
        assert dict(states.items(0)) == {b"\xff\xfe": b"999"}
        assert states.persisted_offset(0) == 2
        await states.put({0: {b"u/d1": b"one"}})
        assert states.persisted_offset(0) == 3


async def test_interrupted_nothing_is_kept(subject: Subject) -> None:
    await subject.make_topics()
    async with subject.process() as states:
        states.changelog = f"{subject.name}-missing"
        put = asyncio.create_task(states.put({0: {b"u/d1": b"one"}}))
        await asyncio.sleep(0.2)
        subject.interrupt.set()
        with pytest.raises(TransientError):
            await asyncio.wait_for(put, 10)
        assert states.get(0, b"u/d1") is None
