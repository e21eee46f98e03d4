"""The batching transport on a real Kafka: batches follow one another, and only a prefix is ever committed."""

import asyncio
from pathlib import Path

import pytest
from faust.types import TP

from app.errors import StuckOffsetError
from app.stream.batch_reader import FaustBatch
from app.stream.rebalance.start_position import Position
from app.worker.watchdog import Watchdog
from tests.contract.stream import faust_worker as fw
from tests.contract.stream.faust_worker import Worker
from tests.servers import KafkaServer
from tests.waiting import until

pytestmark = pytest.mark.integration


async def test_batches_follow_one_another_and_are_committed(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 950, 1: 250})
    async with Worker(kafka.bootstrap, unique, unique, tmp_path) as worker:
        await until(lambda: sum(n - f for _, f, n in worker.seen) == 1200)
        assert all(fw.contiguous(worker.seen, partition) for partition in (0, 1))
        assert max(n - f for _, f, n in worker.seen) <= 100
    assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == {0: 950, 1: 250}


class Held:
    """A handler that acks only what the test lets through."""

    def __init__(self) -> None:
        self.batches: list[FaustBatch] = []
        self.hold = True

    async def __call__(self, batch: FaustBatch) -> None:
        self.batches.append(batch)
        if not self.hold:
            await batch.ack()

    async def release(self) -> None:
        self.hold = False
        for batch in self.batches:
            await batch.ack()

    def of(self, partition: int) -> list[FaustBatch]:
        return [batch for batch in self.batches if batch.partition == partition]

    def current(self) -> list[FaustBatch]:
        return [batch for batch in self.batches if batch.current()]


async def test_a_batch_acked_before_its_predecessor_is_not_committed(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    group = f"iot-{unique}"
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 30, 1: 5})
    held = Held()
    async with Worker(kafka.bootstrap, unique, unique, tmp_path, held, max_rows=10) as worker:
        await until(lambda: len(held.of(0)) == 2 and len(held.of(1)) == 1)
        await held.of(0)[1].ack()
        await held.of(1)[0].ack()
        await until(lambda: worker.consumer._committed_offset[TP(unique, 1)] == 5)
        await asyncio.sleep(0.3)  # three commit intervals
        assert await fw.committed(kafka.bootstrap, group, unique) == {1: 5}
        await held.release()
        await until(lambda: worker.consumer._committed_offset[TP(unique, 0)] == 30)
    assert await fw.committed(kafka.bootstrap, group, unique) == {0: 30, 1: 5}


async def test_buffers_are_bounded(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    """An outage: nothing is acked, so no more than two batches a partition, or the bytes allowed, are fetched."""
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 100, 1: 100}, b"x" * 1000)
    held = Held()
    async with Worker(kafka.bootstrap, unique, unique, tmp_path, held, max_rows=10, partition_bytes=20_000) as worker:
        await until(lambda: len(held.batches) == 4)
        await asyncio.sleep(0.5)
        assert len(held.batches) == 4
        assert 40 * 1000 < worker.consumer.flight.weight < 40 * 2000
        await held.release()
        await until(lambda: sum(n - f for _, f, n in worker.seen) == 200)
        assert worker.consumer.flight.weight == 0
    held = Held()
    group = f"{unique}b"
    async with Worker(kafka.bootstrap, unique, group, tmp_path, held, max_rows=10, buffer_bytes=1) as worker:
        await until(lambda: len(held.batches) == 2)
        await asyncio.sleep(0.5)
        assert [len(held.of(partition)) for partition in (0, 1)] == [1, 1]


async def test_never_committed_partitions_are_read_from_their_start_again(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 20, 1: 20})
    held = Held()
    async with Worker(kafka.bootstrap, unique, unique, tmp_path, held):
        await until(lambda: len(held.batches) == 2)
    assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == {}
    async with Worker(kafka.bootstrap, unique, unique, tmp_path) as worker:
        await until(lambda: sorted(worker.seen) == [(0, 0, 20), (1, 0, 20)])


async def test_workers_that_join_and_leave_in_mid_load_lose_nothing(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    await fw.make_topic(kafka.bootstrap, unique, 4)
    await fw.produce(kafka.bootstrap, unique, dict.fromkeys(range(4), 400))
    done: dict[int, set[int]] = {partition: set() for partition in range(4)}

    async def slowly(batch: FaustBatch) -> None:
        await asyncio.sleep(0.004)
        if batch.current():
            done[batch.partition].update(range(batch.first_offset, batch.next_offset))
            await batch.ack()

    def worker(number: int) -> Worker:
        return Worker(kafka.bootstrap, unique, unique, tmp_path, slowly, number, partitions=4, max_rows=10)

    async with worker(1) as first:
        await until(lambda: len(first.seen) > 20)
        async with worker(2) as second:
            await until(lambda: len(first.partitions) == len(second.partitions) == 2, 30)
            await fw.produce(kafka.bootstrap, unique, dict.fromkeys(range(4), 400))
            await until(lambda: len(second.seen) > 10)
            count = len(second.seen)
            assert {partition for partition, _, _ in second.seen[-count:]} <= second.partitions
        await until(lambda: len(first.partitions) == 4, 30)
        await fw.produce(kafka.bootstrap, unique, dict.fromkeys(range(4), 100))
        await until(lambda: all(len(offsets) == 900 for offsets in done.values()), 30)
        assert (first.app.reason, second.app.reason) == (None, None)
        assert first.report.missing == second.report.missing == []
    everything = dict.fromkeys(range(4), 900)
    assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == everything


async def test_what_was_held_over_a_rebalance_is_stale_and_its_ack_says_nothing(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 10, 1: 10})
    held, other = Held(), Held()
    async with Worker(kafka.bootstrap, unique, unique, tmp_path, held, 1) as first:
        await until(lambda: len(held.batches) == 2)
        old = list(held.batches)
        assert all(batch.current() for batch in old)
        async with Worker(kafka.bootstrap, unique, unique, tmp_path, other, 2) as second:
            await until(lambda: len(first.partitions) == len(second.partitions) == 1, 30)
            # A member may join by way of several rebalances, each of which gives what is held anew.
            await until(lambda: len(held.current()) == len(other.current()) == 1)
            assert not any(batch.current() for batch in old)
            for batch in old:
                await batch.ack()
            await asyncio.sleep(0.3)
            assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == {}
            (mine,), (its,) = held.current(), other.current()
            assert mine.epoch > old[0].epoch
            await mine.ack()
            await its.ack()
    assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == {0: 10, 1: 10}


async def test_running_work_ends_and_is_committed_before_a_stop(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 10})
    held = Held()
    async with Worker(kafka.bootstrap, unique, unique, tmp_path, held) as worker:
        worker.transport.drain = held.release
        await until(lambda: len(held.batches) == 1)
    assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == {0: 10}


async def test_a_committed_offset_that_retention_has_passed(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 100, 1: 100})
    await fw.commit(kafka.bootstrap, f"iot-{unique}", unique, {0: 10, 1: 60})
    await fw.delete_before(kafka.bootstrap, unique, {0: 50, 1: 50})
    async with Worker(kafka.bootstrap, unique, unique, tmp_path) as worker:
        await until(lambda: sorted(worker.seen) == [(0, 50, 100), (1, 60, 100)])
        assert worker.report.reset == [(0, Position(50, 10, reset=True))]
    assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == {0: 100, 1: 100}


async def test_a_topic_made_anew_is_read_from_its_start(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 100})
    async with Worker(kafka.bootstrap, unique, unique, tmp_path) as worker:
        await until(lambda: worker.seen == [(0, 0, 100)])
    await fw.remake_topic(kafka.bootstrap, unique)
    await fw.commit(kafka.bootstrap, f"iot-{unique}", unique, {0: 100})  # a broker may forget it with the topic
    await fw.produce(kafka.bootstrap, unique, {0: 30})
    async with Worker(kafka.bootstrap, unique, unique, tmp_path) as worker:
        await until(lambda: worker.seen == [(0, 0, 30)])
        assert worker.report.reset == [(0, Position(0, None, reset=True))]
    assert (await fw.committed(kafka.bootstrap, f"iot-{unique}", unique))[0] == 30


async def test_records_lost_on_the_way_are_read_again(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 200})
    held = Held()
    async with Worker(kafka.bootstrap, unique, unique, tmp_path, held, max_rows=10) as worker:
        await until(lambda: len(held.batches) == 2)
        await worker.seek_behind_its_back(0, 100)
        await held.release()
        await until(lambda: sum(n - f for _, f, n in worker.seen) == 200)
        assert worker.report.healed == [(0, 20, 100)]
        assert worker.report.missing == []
        assert fw.contiguous(worker.seen, 0)
    assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == {0: 200}


async def test_records_that_come_twice_are_handed_over_once(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 200})
    held = Held()
    async with Worker(kafka.bootstrap, unique, unique, tmp_path, held, max_rows=10) as worker:
        await until(lambda: len(held.batches) == 2)
        await worker.seek_behind_its_back(0, 5)
        await held.release()
        await until(lambda: worker.seen and worker.seen[-1][2] == 200)
        assert fw.contiguous(worker.seen, 0)
        assert sum(n - f for _, f, n in worker.seen) == 200


async def test_retention_passes_a_worker_that_is_held(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    """Then the log has nothing where reading should go on: said once, and read from what is left."""
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 200})
    held = Held()
    async with Worker(
        kafka.bootstrap, unique, unique, tmp_path, held, max_rows=10, fetch_bytes=200, partition_bytes=1
    ) as worker:
        await until(lambda: len(held.batches) == 1)
        await fw.delete_before(kafka.bootstrap, unique, {0: 150})
        await worker.seek_behind_its_back(0, 10)  # drops what was fetched ahead
        await held.release()
        await until(lambda: worker.seen[-1][2] == 200)
        assert worker.report.missing == [(0, 10, 150)]
        assert sum(n - f for _, f, n in worker.seen) == 60
    assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == {0: 200}


async def test_markers_of_transactions_do_not_stall(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce_in_transactions(kafka.bootstrap, unique, 5, 10)
    async with Worker(kafka.bootstrap, unique, unique, tmp_path, max_rows=10) as worker:
        await until(lambda: worker.records == 50)
        await fw.produce_in_transactions(kafka.bootstrap, unique, 1, 10)
        await until(lambda: worker.records == 60)
        await until(lambda: worker.consumer._committed_offset[TP(unique, 0)] == 65)
        watchdog = Watchdog(20.0)  # three reads of what follows take a second each
        watch = asyncio.create_task(watchdog.watch(worker.consumer))
        await until(lambda: watch.done() or watchdog.lag.get(TP(unique, 0)) == 1, 20)
        # the marker at the end is nothing that waits
        await until(lambda: watch.done() or watchdog.lag[TP(unique, 0)] == 0, 20)
        assert not watch.done(), watch.exception()
        watch.cancel()
        await fw.produce(kafka.bootstrap, unique, {0: 1})
        await until(lambda: worker.records == 61)
        assert worker.app.reason is None
    assert (await fw.committed(kafka.bootstrap, f"iot-{unique}", unique))[0] == 67


async def test_an_empty_log_that_does_not_start_at_0_is_not_stuck(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 100, 1: 100})
    await fw.commit(kafka.bootstrap, f"iot-{unique}", unique, {0: 10})  # and nothing for partition 1
    await fw.delete_before(kafka.bootstrap, unique, {0: 100, 1: 100})
    async with Worker(kafka.bootstrap, unique, unique, tmp_path) as worker:
        await until(lambda: len(worker.partitions) == 2)
        watchdog = Watchdog(1.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watchdog.watch(worker.consumer), 2.5)
        assert set(watchdog.lag.values()) == {0}


async def test_a_batch_that_nobody_works_on_is_stuck(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 10, 1: 10})

    async def lose(batch: FaustBatch) -> None:
        if batch.partition == 0:
            batch._event.message.in_work = False
        else:
            await batch.ack()

    async with Worker(kafka.bootstrap, unique, unique, tmp_path, lose) as worker:
        await until(lambda: len(worker.seen) == 2)
        with pytest.raises(StuckOffsetError, match=rf"{unique}-0: no progress .* offset 0 is nowhere in work"):
            await asyncio.wait_for(Watchdog(1.0).watch(worker.consumer), 15)


async def test_a_held_batch_is_not_stuck(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 10})
    held = Held()
    async with Worker(kafka.bootstrap, unique, unique, tmp_path, held) as worker:
        await until(lambda: len(held.batches) == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Watchdog(0.5).watch(worker.consumer), 1.5)


async def test_what_fails_in_a_rebalance_ends_the_worker(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    """aiokafka logs it and goes on: a worker that has partitions, and does nothing."""
    await fw.make_topic(kafka.bootstrap, unique)
    async with Worker(kafka.bootstrap, unique, unique, tmp_path, number=1) as worker:
        await until(lambda: worker.partitions == {0, 1}, 30)

        async def fails(*_: object) -> None:
            raise RuntimeError("a bug")

        worker.consumer.on_partitions_assigned = fails
        async with Worker(kafka.bootstrap, unique, unique, tmp_path, number=2):
            await until(lambda: worker.app.crashed, 30)
    assert isinstance(worker.app.crash_reason, RuntimeError)
