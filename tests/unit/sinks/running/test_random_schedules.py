"""A sink under random schedules of outages, refusals, rebalances, kills and stops: no record is ever lost."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.sinks.running.world import World

STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 2), st.integers(1, 40)),
    st.tuples(st.just("assign"), st.sets(st.integers(0, 2))),
    st.tuples(st.just("destination"), st.booleans()),
    st.tuples(st.just("hang"), st.booleans()),
    st.tuples(st.just("half"), st.integers(0, 30)),
    st.tuples(st.just("kafka"), st.booleans()),
    st.tuples(st.just("letters"), st.integers(1, 2)),
    st.tuples(st.just("others"), st.integers(0, 2), st.integers(1, 30)),
    st.just(("kill",)),
    st.just(("stop",)),
    st.tuples(st.just("pass"), st.integers(1, 30)),
)


@given(
    steps=st.lists(STEPS, min_size=3, max_size=25),
    linger=st.sampled_from([0.0, 0.002, 3600.0]),
    keeps_offsets=st.booleans(),
    seed=st.integers(2, 11),
)
@settings(deadline=None)
def test_what_is_committed_is_written(steps: list[Any], linger: float, keeps_offsets: bool, seed: int) -> None:
    asyncio.run(_run(steps, linger, keeps_offsets, seed))


async def _run(steps: list[Any], linger: float, keeps_offsets: bool, seed: int) -> None:
    world = World(3, sink_buffer_bytes=6_000, shutdown_timeout=1.2, sink_retry_max=0.005)
    await world.kill()
    world.linger = linger
    world.destination.keeps_offsets = keeps_offsets
    world.destination.refuses = lambda record: record.offset % seed == 1
    world.start()
    mine: set[int] = set()
    for step in steps:
        mine = await _step(world, mine, step)
        world.check()
    await _heal(world)
    world.check()
    done = set(world.destination.written) | set(world.letters.sent)
    assert done == world.log.places()
    assert world.runner.books.balance(world.sink.held.records) == 0


async def _step(world: World, mine: set[int], step: Any) -> set[int]:
    match step:
        case ("append", partition, count):
            world.log.append(partition, count)
        case ("assign", partitions):
            await world.consumer.assign(*partitions)
            return set(partitions)
        case ("destination", away):
            world.destination.away = away
        case ("hang", True):
            world.destination.answers.clear()
        case ("hang", False):
            world.destination.answers.set()
        case ("half", count):
            world.destination.fails_after = count
        case ("kafka", away):
            world.log.away = away
        case ("letters", fails):
            world.letters.fails = fails
        case ("others", partition, count) if partition not in mine:
            _others(world, partition, count)
        case ("kill",):
            await world.kill()
            world.start()
            return set()
        case ("stop",):
            world.destination.answers.set()
            await asyncio.wait_for(world.end(), 5)
            world.start()
            return set()
        case ("pass", turns):
            for _ in range(turns):
                await asyncio.sleep(0.0005)
    return mine


def _others(world: World, partition: int, count: int) -> None:
    """Another process of the sink writes records of its own partition, and commits."""
    begin = world.log.committed.get(partition, 0)
    end = min(len(world.log.records[partition]), begin + count)
    for offset in range(begin, end):
        world.destination.written[partition, offset] += 1
    if end > begin:
        world.log.committed[partition] = end


async def _heal(world: World) -> None:
    """End all failures, and assign all partitions to this process; a stop flushes the buffer."""
    world.destination.away, world.log.away, world.letters.fails, world.destination.fails_after = False, False, 0, None
    world.destination.answers.set()
    await world.consumer.assign(0, 1, 2)
    async with asyncio.timeout(10):
        while (
            not all(
                one.read_to == len(world.log.records[number])
                for number, one in world.runner._progress.partitions.items()
            )
            or len(world.runner._progress.partitions) < 3
            or not world.consumer.settled
        ):
            if world.task.done():
                world.task.result()
            await asyncio.sleep(0.001)
    await asyncio.wait_for(world.end(), 5)
    assert world.all_committed() or not world.consumer.assigned
    assert all(world.log.committed.get(number, 0) == len(log) for number, log in world.log.records.items() if log)
