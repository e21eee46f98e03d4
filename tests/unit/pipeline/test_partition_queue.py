"""Batches wait for the batches before them, partition by partition and epoch by epoch."""

import asyncio

import pytest

from app.pipeline.partition_queue import CoalesceLimit, PartitionQueues, StoreOutcome, is_stored
from tests.pipeline.world import Life, MemoryBatch, World
from tests.unit.records import Message


def batch(partition: int, offset: int, epoch: int = 1) -> MemoryBatch:
    return MemoryBatch(World(), Life().tick, partition, [Message(offset=offset)], epoch)


def test_a_partition_s_batches_come_in_order_joined_as_far_as_they_fit() -> None:
    queues = PartitionQueues(CoalesceLimit(rows=2))
    for offset in range(2):
        queues.put(batch(0, offset))
    queue, other = queues.put(batch(0, 2)), queues.put(batch(1, 7))
    assert [len(each) for each in queues] == [3, 1]
    assert [record.offset for record in queue.take().records] == [0, 1]
    assert [record.offset for record in queue.take().records] == [2]
    assert (len(queue), len(other)) == (0, 1)


def test_an_epoch_has_queues_of_its_own() -> None:
    queues = PartitionQueues(CoalesceLimit())
    old = [queues.put(batch(partition, 0)) for partition in range(2)]
    new = queues.put(batch(0, 0, epoch=2))
    assert list(queues) == [new]
    assert new not in old


def test_after_a_drain_nothing_waits_and_what_follows_knows_who_came_before() -> None:
    queues = PartitionQueues(CoalesceLimit())
    queue = queues.put(batch(0, 0))
    queues.clear()
    assert len(queue) == 0
    assert queues.put(batch(0, 1)) is queue


@pytest.mark.parametrize("outcome", [*StoreOutcome, ValueError("a bug"), asyncio.CancelledError()], ids=repr)
async def test_stored_is_what_was_neither_interrupted_nor_cancelled_and_did_not_fail(
    outcome: StoreOutcome | BaseException,
) -> None:
    async def store() -> StoreOutcome:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    storing = asyncio.ensure_future(store())
    await asyncio.wait({storing})
    assert is_stored(storing) is (outcome is StoreOutcome.STORED)
