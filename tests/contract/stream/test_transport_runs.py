"""How runs of records are cut, checked and forgotten; a consumer of the transport that is connected to nothing."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.types import TP

from app.stream.batches import BatchMessage
from app.stream.in_flight import WAITING
from app.stream.rebalance.start_position import Position
from app.stream.transport import BatchConsumer
from tests.contract.stream.faust_worker import Report, Worker, ack
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
        self.consumer.highwater = self.highwaters.get
        self.consumer.offsets.starts = self._starts
        self.rejoins = 0
        self.consumer.offsets.rejoin = self._rejoin
        self.consumer.offsets.seek_to = self._seek_to
        self.lost: set[TP] = set()  # by the client, while a rebalance goes on that no other part knows of yet

    async def _seek_to(self, offsets: Mapping[TP, int], rebalances: int) -> Collection[TP]:
        assert rebalances == self.consumer.app.rebalancing_count
        found = offsets.keys() - self.lost
        self.seeks += [(tp, offsets[tp]) for tp in found]
        return found

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
        """What is handed over; then what is done before the next poll."""
        batches: AsyncIterator[BatchMessage] = self.consumer.reader.batches(tp, run)
        found = [(batch.first_offset, batch.next_offset) async for batch in batches]
        await self.consumer.seek_back.put_back()
        return found


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
    subject.consumer.reader.forget()
    assert await subject.take(ZERO, records(10, 20)) == []


async def test_what_is_dropped_as_not_placed_is_read_again_once_it_is(make: Make) -> None:
    """A poll that began before the end of a rebalance returns after its positions were found: nobody else seeks."""
    subject = make()
    assert await subject.take(ZERO, records(0, 10)) == []
    assert subject.seeks == []
    subject.place(ZERO, 0)
    subject.consumer.app.rebalancing_count = 1  # placed, and its recovery has not ended
    assert await subject.take(ZERO, records(0, 10)) == []
    assert subject.seeks == []
    subject.consumer.app.ended = 1
    await subject.consumer.seek_back.put_back()
    assert subject.seeks == [(ZERO, 0)]
    assert await subject.take(ZERO, records(0, 10)) == [(0, 10)]
    assert len(subject.seeks) == 1


async def test_a_rebalance_in_the_middle_of_a_run_leaves_nothing_in_flight_that_nobody_has(make: Make) -> None:
    """The agent's queue was full; the books are of another epoch when the next batch is asked for."""
    subject = make(max_rows=5)
    subject.place(ZERO, 0)
    batches = subject.consumer.reader.batches(ZERO, records(0, 10))
    assert (await anext(batches)).next_offset == 5
    subject.consumer.reader.forget()
    subject.place(ZERO, 0)
    assert [batch async for batch in batches] == []
    assert subject.consumer.flight.idle(ZERO)
    await subject.consumer.seek_back.put_back()
    assert subject.seeks == [(ZERO, 0)]


async def test_a_flow_that_stops_in_the_middle_of_a_run_gives_back_the_rest(make: Make) -> None:
    subject = make(max_rows=5)
    subject.place(ZERO, 0)
    batches = subject.consumer.reader.batches(ZERO, records(0, 10))
    assert (await anext(batches)).next_offset == 5
    subject.consumer.stop_flow()
    assert [batch async for batch in batches] == []
    subject.consumer.resume_flow()
    await subject.consumer.seek_back.put_back()
    assert subject.seeks == [(ZERO, 5)]


async def test_a_run_that_nobody_takes_to_its_end_is_read_again(make: Make) -> None:
    """Whatever ends the reading: in this test the generator is closed."""
    subject = make(max_rows=5)
    subject.place(ZERO, 0)
    batches = subject.consumer.reader.batches(ZERO, records(0, 10))
    await anext(batches)
    await batches.aclose()  # type: ignore[attr-defined]
    await subject.consumer.seek_back.put_back()
    assert subject.seeks == [(ZERO, 5)]


async def test_what_a_rebalance_takes_away_stays_owed(make: Make) -> None:
    subject = make()
    subject.place(ZERO, 0)
    subject.consumer.stop_flow()
    subject.lost = {ZERO}
    assert await subject.take(ZERO, records(0, 10)) == []
    assert subject.seeks == []
    subject.lost = set()
    await subject.consumer.seek_back.put_back()
    assert subject.seeks == [(ZERO, 0)]


async def test_a_poll_that_fails_owes_what_it_was_asked_for(make: Make) -> None:
    """The poll may have taken records before it was cancelled."""
    subject = make()
    subject.place(ZERO, 3)
    consumer = subject.consumer

    async def fails(**_: Any) -> Any:
        raise TimeoutError

    async def finds(**_: Any) -> Any:
        return {ZERO: records(3, 5)}

    consumer._set_active_tps({ZERO})
    consumer._getmany = fails
    with pytest.raises(TimeoutError):
        await anext(consumer.getmany(1.0))
    consumer._getmany = finds
    assert [message.next_offset async for _, message in consumer.getmany(1.0)] == [5]
    assert subject.seeks == [(ZERO, 3)]
    await consumer.seek_back.put_back()
    assert len(subject.seeks) == 1


async def test_records_dropped_again_and_again_are_never_taken_for_markers(make: Make) -> None:
    """The client's position is beyond them each time, as it is beyond markers."""
    subject = make()
    subject.place(ZERO, 0)
    consumer = subject.consumer
    position = 10

    async def reached(_: TP) -> int:
        return position

    consumer.offsets.reached = reached
    await consumer.seek_back.look_again(ZERO)
    for _ in range(5):
        consumer.stop_flow()
        subject.lost = {ZERO}
        assert await subject.take(ZERO, records(0, 10)) == []
        consumer.resume_flow()
    assert (consumer.flight.expected, consumer.flight.done) == ({ZERO: 0}, {})
    subject.lost = set()
    position = 0
    await consumer.seek_back.put_back()
    assert subject.seeks[-1] == (ZERO, 0)
    assert await subject.take(ZERO, records(0, 10)) == [(0, 10)]


async def test_what_holds_no_records_is_passed_over_after_two_looks(make: Make) -> None:
    subject = make()
    subject.place(ZERO, 5)
    consumer = subject.consumer

    async def reached(_: TP) -> int:
        return 7

    consumer.offsets.reached = reached
    await consumer.seek_back.look_again(ZERO)
    assert subject.seeks == []  # a poll may be under way
    await consumer.seek_back.put_back()
    await consumer.seek_back.put_back()
    assert subject.seeks == [(ZERO, 5)] * 2
    await consumer.seek_back.put_back()
    assert consumer._filter_committable_offsets([ZERO]) == {ZERO: 7}
    assert consumer.flight.start == {ZERO: 7}  # whoever asks how far all is read, as app.stream.log_progress does
    assert len(subject.seeks) == 2


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
    batches = [batch async for batch in subject.consumer.reader.batches(ZERO, run)]
    message = batches[0]
    assert message.value == run
    assert (message.tp, message.offset, message.timestamp) == (ZERO, 7, run[-1].timestamp / 1000)
    assert subject.consumer.reader.current(message)
    assert subject.consumer.flight.heads() == {ZERO: message}
    subject.consumer.reader.forget()
    assert not subject.consumer.reader.current(message)


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
    batches = [batch async for batch in consumer.reader.batches(ZERO, records(0, 15))]
    other = [batch async for batch in consumer.reader.batches(ONE, records(0, 5))]
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
    old = [batch async for batch in subject.consumer.reader.batches(ZERO, records(0, 5))]
    subject.consumer.reader.forget()
    subject.place(ZERO, 0)
    new = [batch async for batch in subject.consumer.reader.batches(ZERO, records(0, 5))]
    subject.consumer.ack(old[0])
    assert subject.consumer._filter_committable_offsets([ZERO]) == {}
    subject.consumer.ack(new[0])
    assert subject.consumer._filter_committable_offsets([ZERO]) == {ZERO: 5}


async def test_a_partition_is_not_polled_while_nobody_has_taken_its_last_batches_up(make: Make) -> None:
    """What comes meanwhile comes as one batch, and not as many that are taken up one by one."""
    subject = make(max_rows=5, partition_bytes=1 << 20, buffer_bytes=1 << 20)
    consumer = subject.consumer
    subject.place(ZERO, 0)
    await subject.take(ZERO, records(0, 5 * WAITING - 5))
    assert consumer.reader.has_room(ZERO)
    await subject.take(ZERO, records(5 * WAITING - 5, 5 * WAITING))
    assert not consumer.reader.has_room(ZERO)
    consumer.reader.room.clear()
    consumer.reader.taken_up(consumer.flight.heads()[ZERO])
    assert consumer.reader.has_room(ZERO)
    assert consumer.reader.room.is_set()  # whoever waits for room looks again


async def test_a_partition_without_room_is_not_polled(make: Make) -> None:
    subject = make(max_rows=5, partition_bytes=4000, buffer_bytes=10_000)
    consumer = subject.consumer
    for tp in (ZERO, ONE):
        subject.place(tp, 0)
    await subject.take(ZERO, records(0, 10))
    for batch in consumer.flight._out[ZERO]:
        consumer.reader.taken_up(batch)
    assert (consumer.reader.has_room(ZERO), consumer.reader.has_room(ONE)) == (False, True)
    await subject.take(ONE, records(0, 5, size=4000))
    assert not consumer.reader.has_room(ONE)  # the bytes of all are used up
    consumer.ack(consumer.flight.heads()[ONE])
    assert consumer.reader.has_room(ONE)
    assert consumer.reader.has_room(TP("a-changelog", 0))
