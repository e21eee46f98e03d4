"""The runner with a feed and a real HTTP server: the effect of a faulty record on other devices, and crashes."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import pytest

from app.sinks.feed.sink import FeedSink
from app.sinks.running.clients import SinkKafka
from app.sinks.running.runner import SinkRunner
from tests.receivers.http_receiver import Answer, HttpReceiver, Item, http_receiver
from tests.unit.sinks.running.world import LogConsumer, World
from tests.waiting import until

Name = tuple[int, int]  # partition, sequence_id


class FeedWorld(World):
    """A log, an HTTP receiver, and one process at a time that runs a feed between them."""

    def __init__(self, receiver: HttpReceiver, **settings: Any) -> None:
        self.receiver = receiver
        super().__init__(2, feed_url=receiver.url, feed_flush_ms=1, feed_timeout=2.0, **settings)

    def start(self) -> None:
        self.stop = asyncio.Event()
        self.consumer = LogConsumer(self.settings, self.log, self.stop)
        self.feed = FeedSink("fake", self.settings)
        kafka: Any = self.consumer, self.letters, self.series
        self.runner = SinkRunner(self.settings, self.feed, self.stop, SinkKafka(*kafka))
        self.task = asyncio.create_task(self.runner.run())

    def taken(self) -> set[Name]:
        return {name(item) for item in self.receiver.taken}

    def balanced(self) -> bool:
        return self.runner.books.balance(self.feed.held.records) == 0


def name(item: Item) -> Name:
    return int(item["user_id"][1:]), item["sequence_id"]


def jumped(items: Iterable[Item], without: set[Name]) -> list[Name]:
    """Readings that arrived before an earlier reading of their device; a repeat resets the device's position."""
    last: dict[tuple[int, str], int] = {}
    found = []
    for item in items:
        partition, number = name(item)
        device = partition, item["device_id"]
        before = last.get(device, number % 10 - 10)
        missing = {(partition, one) for one in range(before + 10, number, 10)}
        if missing - without:
            found.append((partition, number))
        last[device] = number
    return found


@pytest.fixture
async def receiver() -> AsyncIterator[HttpReceiver]:
    async with http_receiver() as made:
        yield made


@pytest.fixture
async def world(receiver: HttpReceiver) -> AsyncIterator[FeedWorld]:
    made = FeedWorld(receiver)
    yield made
    await made.kill()


async def test_a_record_over_which_the_receiver_fails_becomes_a_dead_letter_alone(world: FeedWorld) -> None:
    def judge(items: Sequence[Item]) -> Answer | None:
        return Answer(500) if (0, 33) in map(name, items) else None

    world.receiver.judge = judge
    world.log.append(0, 50)
    await world.consumer.assign(0, 1)
    async with asyncio.timeout(20):
        while not world.letters.sent:  # it is proven by others that are taken meanwhile
            world.log.append(1, 3)
            world.log.append(0, 2)
            await asyncio.sleep(0.01)
    await world.done(20)
    assert world.letters.sent == [(0, 33)]
    assert world.taken() == world.log.places() - {(0, 33)}
    assert jumped(world.receiver.taken, {(0, 33)}) == []
    assert world.balanced()
    assert world.runner.books.outcomes["refused"] == 1


async def test_a_receiver_that_fails_on_all_batches_causes_no_dead_letter(world: FeedWorld) -> None:
    world.receiver.judge = lambda _: Answer(500)
    world.log.append(0, 300)
    world.log.append(1, 300)
    await world.consumer.assign(0, 1)
    for _ in range(40):
        world.log.append(0, 5)
        await asyncio.sleep(0.02)
    assert world.letters.sent == []
    assert not world.log.committed.get(0)
    most = 4 * 4 * world.settings.feed_batch + 500
    assert world.feed.held.records <= most
    world.receiver.judge = lambda _: None
    await world.done(20)
    assert world.taken() == world.log.places()
    assert jumped(world.receiver.taken, set()) == []


async def test_a_device_that_floods_with_faulty_records_delays_no_other(world: FeedWorld) -> None:
    """All records of one device are faulty: they become dead letters, and other devices' records are taken at once."""

    def judge(items: Sequence[Item]) -> Answer | None:
        return Answer(500) if any(item["device_id"] == "d7" for item in items) else None

    world.receiver.judge = judge
    await world.consumer.assign(0, 1)
    world.log.append(0, 400)
    world.log.append(1, 100)
    bad = {(partition, n) for partition, n in world.log.places() if n % 10 == 7}
    await until(lambda: world.taken() == world.log.places() - bad, 10)
    for _ in range(300):
        if world.all_committed():
            break
        world.log.append(1, 1 if len(world.log.records[1]) % 10 != 7 else 2)
        await asyncio.sleep(0.01)
    await world.done(20)
    bad = {(partition, n) for partition, n in world.log.places() if n % 10 == 7}
    assert set(world.letters.sent) == bad
    assert world.taken() == world.log.places() - bad


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_each_is_taken_in_order_or_a_dead_letter(receiver: HttpReceiver, seed: int) -> None:
    chance = random.Random(seed)
    never = {(partition, n) for partition in (0, 1) for n in range(2000) if chance.random() < 0.01}
    poison = {one for one in never if chance.random() < 0.3}

    def judge(items: Sequence[Item]) -> Answer | None:
        names = set(map(name, items))
        if chance.random() < 0.1:
            return Answer(chance.choice((502, 503, 429)), taken=chance.random() < 0.5)
        if chance.random() < 0.05:
            return Answer(cut=True, taken=chance.random() < 0.5)
        if names & poison:
            return Answer(500, taken=False)
        return Answer(422, taken=False) if names & never else None

    receiver.judge = judge
    world = FeedWorld(receiver, feed_batch=chance.choice((1, 7, 50)), feed_requests=chance.choice((1, 3)))
    await world.consumer.assign(0, 1)
    try:
        for _ in range(40):
            world.log.append(chance.randrange(2), chance.randrange(1, 25))
            match chance.randrange(8):
                case 0:
                    await world.kill()
                    world.start()
                    await world.consumer.assign(0, 1)
                case 1:
                    await world.consumer.assign(chance.randrange(2))
                case 2:
                    await world.consumer.assign(0, 1)
            await asyncio.sleep(chance.uniform(0, 0.03))
        await world.consumer.assign(0, 1)
        for _ in range(500):
            if world.all_committed():
                break
            world.log.append(chance.randrange(2), 1)  # other devices, which show that the receiver is available
            await asyncio.sleep(0.02)
        receiver.judge = lambda items: None if not set(map(name, items)) & never else Answer(422, taken=False)
        await world.done(20)
    finally:
        await world.kill()
    places = world.log.places()
    assert world.taken() >= places - never
    assert set(world.letters.sent) <= never
    assert world.taken() | set(world.letters.sent) >= places
    assert jumped(receiver.taken, never) == []
