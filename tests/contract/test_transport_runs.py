"""How runs of records are cut, checked and forgotten; a consumer of the transport that is connected to nothing."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.types import TP

from app.adapters.batches import BatchMessage
from app.adapters.positions import Position
from app.adapters.transport import BatchConsumer
from tests.contract.faust_worker import Report, Worker, ack
from tests.unit.records import Message

ZERO, ONE = TP("readings", 0), TP("readings", 1)


class Record(Message):
    timestamp_type: int = 0


def records(first: int, following: int, size: int = 2) -> list[Any]:
    return [Record(value=b"x" * size, offset=offset) for offset in range(first, following)]


class Unconnected:
    def __init__(self, directory: Path, limits: dict[str, int]) -> None:
        worker = Worker("127.0.0.1:1", "readings", "none", directory, ack, 1, **limits)
        self.consumer: BatchConsumer = worker.consumer
        self.report: Report = worker.report
        self.seeks: list[tuple[TP, int]] = []
        self.highwaters: dict[TP, int] = {}
        self.starts: dict[TP, int] = {}  # of the logs; without one Kafka does not answer
        self.consumer.seek = self._seek
        self.consumer.highwater = self.highwaters.get
        self.consumer._thread.starts = self._starts
        self.rejoins = 0
        self.consumer._thread.rejoin = self._rejoin

    async def _seek(self, tp: TP, offset: int) -> None:
        self.seeks.append((tp, offset))

    async def _rejoin(self) -> None:
        self.rejoins += 1

    async def _starts(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        if not self.starts:
            raise KafkaTimeoutError
        return {tp: self.starts[tp] for tp in tps}

    def close(self) -> None:
        """A consumer's thread makes its loop before it starts, and closes it when it ends."""
        self.consumer._thread.thread_loop.close()

    def place(self, tp: TP, offset: int) -> None:
        """What perform_seek does."""
        self.consumer.flight.place(tp, Position(offset, None))

    async def take(self, tp: TP, run: list[Any]) -> list[tuple[int, int]]:
        batches: AsyncIterator[BatchMessage] = self.consumer._batches(tp, run)
        return [(batch.first_offset, batch.next_offset) async for batch in batches]


Make = Callable[..., Unconnected]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Unconnected] = []

    def one(**limits: int) -> Unconnected:
        made.append(Unconnected(tmp_path, limits))
        return made[-1]

    yield one
    for each in made:
        each.close()


async def test_nothing_is_handed_over_before_its_partition_was_placed(make: Make) -> None:
    """A poll may outlast a rebalance: its records belong to partitions whose states may not even be ours."""
    subject = make()
    assert await subject.take(ZERO, records(0, 10)) == []
    assert subject.consumer.flight.heads() == {}
    subject.place(ZERO, 0)
    assert await subject.take(ZERO, records(0, 10)) == [(0, 10)]
    subject.consumer._forget()
    assert await subject.take(ZERO, records(10, 20)) == []


async def test_runs_are_cut_by_rows_and_by_bytes(make: Make) -> None:
    subject = make(max_rows=4, max_bytes=30)
    subject.place(ZERO, 0)
    assert await subject.take(ZERO, records(0, 10)) == [(0, 4), (4, 8), (8, 10)]
    assert await subject.take(ZERO, records(10, 15, size=15)) == [(10, 12), (12, 14), (14, 15)]
    assert await subject.take(ZERO, records(15, 17, size=100)) == [(15, 16), (16, 17)]  # a large one is a batch too
    assert await subject.take(ZERO, []) == []


async def test_a_batch_names_its_records(make: Make) -> None:
    subject = make()
    subject.place(ZERO, 5)
    run = records(5, 8)
    batches = [batch async for batch in subject.consumer._batches(ZERO, run)]
    message = batches[0]
    assert message.value == run
    assert (message.tp, message.offset, message.timestamp) == (ZERO, 7, run[-1].timestamp / 1000)
    assert subject.consumer.current(message)
    assert subject.consumer.flight.heads() == {ZERO: message}
    subject.consumer._forget()
    assert not subject.consumer.current(message)


async def test_a_gap_is_read_again_twice_and_then_believed(make: Make) -> None:
    """Retention has removed what was not read: the log begins at 10."""
    subject = make()
    subject.starts = {ZERO: 10}
    subject.place(ZERO, 0)
    assert await subject.take(ZERO, records(10, 20)) == []
    assert (subject.seeks, subject.report.healed) == ([(ZERO, 0)], [(0, 0, 10)])
    assert await subject.take(ZERO, records(10, 20)) == []  # the client may have dropped what it read again, too
    assert subject.seeks == [(ZERO, 0)] * 2
    assert await subject.take(ZERO, records(10, 20)) == [(10, 20)]
    assert subject.report.missing == [(0, 0, 10)]
    assert await subject.take(ZERO, records(30, 40)) == []  # another gap is another matter
    assert subject.seeks[2:] == [(ZERO, 20)]
    assert await subject.take(ZERO, records(20, 40)) == [(20, 40)]
    assert len(subject.report.missing) == 1


async def test_a_gap_in_the_middle_of_the_log_is_markers_and_nothing_is_missing(make: Make) -> None:
    subject = make()
    subject.starts = {ZERO: 3}
    subject.place(ZERO, 5)
    for _ in range(2):
        assert await subject.take(ZERO, records(6, 20)) == []
    assert await subject.take(ZERO, records(6, 20)) == [(6, 20)]
    assert subject.report.missing == []


async def test_retention_may_have_removed_the_first_part_of_a_gap_alone(make: Make) -> None:
    subject = make()
    subject.starts = {ZERO: 8}
    subject.place(ZERO, 5)
    for _ in range(2):
        assert await subject.take(ZERO, records(10, 20)) == []
    assert await subject.take(ZERO, records(10, 20)) == [(10, 20)]
    assert subject.report.missing == [(0, 5, 8)]


async def test_a_gap_is_not_believed_while_kafka_does_not_say_where_its_log_begins(make: Make) -> None:
    subject = make()
    subject.place(ZERO, 5)
    for _ in range(5):
        assert await subject.take(ZERO, records(6, 20)) == []
    assert subject.seeks == [(ZERO, 5)] * 5
    assert await subject.take(ZERO, records(5, 20)) == [(5, 20)]


@pytest.mark.parametrize("following", [3, 15])
async def test_a_log_that_is_read_from_its_start_again_is_looked_up_before_anything_of_it_is_taken(
    make: Make, following: int
) -> None:
    """The client goes there by itself when there is nothing at the offset it asks for."""
    subject = make()
    subject.place(ZERO, 10)
    subject.place(ONE, 0)
    assert await subject.take(ZERO, records(0, following)) == []
    assert subject.rejoins == 1
    assert subject.report.doubts == ["readings-0 is read from 0 on, and 10 was to follow"]
    assert await subject.take(ONE, records(0, 5)) == [], "another partition of the topic may be another log, too"


async def test_offsets_move_by_the_prefix_alone(make: Make) -> None:
    subject = make(max_rows=5)
    consumer = subject.consumer
    for tp in (ZERO, ONE):
        subject.place(tp, 0)
    batches = [batch async for batch in consumer._batches(ZERO, records(0, 15))]
    other = [batch async for batch in consumer._batches(ONE, records(0, 5))]
    weight = consumer.flight.weight
    for batch in (batches[2], batches[1], other[0]):
        assert consumer.ack(batch)
    assert consumer._filter_committable_offsets([ZERO, ONE]) == {ONE: 5}
    assert consumer.flight.done_offsets() == {ZERO: 0, ONE: 5}
    consumer.ack(batches[0])
    assert consumer._filter_committable_offsets([ZERO, ONE]) == {ZERO: 15, ONE: 5}
    assert 0 == consumer.flight.weight < weight


async def test_an_ack_of_another_epoch_commits_nothing(make: Make) -> None:
    subject = make()
    subject.place(ZERO, 0)
    old = [batch async for batch in subject.consumer._batches(ZERO, records(0, 5))]
    subject.consumer._forget()
    subject.place(ZERO, 0)
    new = [batch async for batch in subject.consumer._batches(ZERO, records(0, 5))]
    subject.consumer.ack(old[0])
    assert subject.consumer._filter_committable_offsets([ZERO]) == {}
    subject.consumer.ack(new[0])
    assert subject.consumer._filter_committable_offsets([ZERO]) == {ZERO: 5}


async def test_a_partition_without_room_is_not_polled(make: Make) -> None:
    subject = make(max_rows=5, partition_bytes=4000, buffer_bytes=10_000)
    consumer = subject.consumer
    for tp in (ZERO, ONE):
        subject.place(tp, 0)
    await subject.take(ZERO, records(0, 10))
    assert (consumer._has_room(ZERO), consumer._has_room(ONE)) == (False, True)
    await subject.take(ONE, records(0, 5, size=4000))
    assert not consumer._has_room(ONE)  # the bytes of all are used up
    consumer.ack(consumer.flight.heads()[ONE])
    assert consumer._has_room(ONE)
    assert consumer._has_room(TP("a-changelog", 0))
