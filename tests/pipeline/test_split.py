"""A batch that alerts too much is stored and closed in parts, one after another, and acked with the last of them."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from app.core.decode.decoder import DecodeLimits
from app.core.processing.processor import Processor
from app.core.user_config.rulebook import RuleBook
from app.errors import TransientError
from app.pipeline import finalizer
from app.pipeline.batch_parts import CoalescedBatch, SplitBatch, split
from tests import DEFAULT
from tests.pipeline.test_sampling import Counting
from tests.pipeline.world import Crash, Life, MemoryBatch, MemoryOutbox, Worker, World
from tests.unit.readings import rule
from tests.unit.records import Message
from tests.waiting import until

NOW = float(int(time.time()))
START = datetime.fromtimestamp(NOW, UTC) - timedelta(hours=1)
RULES = [rule("temperature", id=f"r{n}") for n in range(3)]
VALUES = [20, 90, 90, 20, 90, 20, 20, 90, 20]
COUNT = 2 * len(VALUES)  # two devices, reading by reading in turn


def records() -> list[Message]:
    made = []
    for offset in range(COUNT):
        place, device = offset // 2, f"d{offset % 2}"
        body = {"time": START + timedelta(seconds=place), "sequence_id": place, "temperature": VALUES[place]}
        topic = ("mqtt_topic", f"users/u/devices/{device}/telemetry".encode())
        made.append(Message(msgspec.json.encode(body), (topic,), f"u/{device}".encode(), int(NOW * 1000), offset))
    return made


def processor(world: World, most: float) -> Any:
    book = RuleBook(DEFAULT)
    assert book.apply([("u", msgspec.json.encode(RULES).decode())]) == []
    process = Processor(DecodeLimits(), DEFAULT, book, world.load, output_max=most)
    return lambda batch, _: process(batch, NOW)


def batches(world: World, life: Life, size: int, first: int = 0) -> list[MemoryBatch]:
    every = records()
    return [MemoryBatch(world, life.tick, 0, every[at : at + size]) for at in range(first, COUNT, size)]


async def live(world: World, life: Life, most: float, size: int = COUNT) -> Counting:
    """A worker's life from what is committed on, in batches of `size`."""
    ledger = Counting()
    worker = Worker(world, life, processor(world, most), ledger=ledger)
    with contextlib.suppress(Crash):
        await worker.run(batches(world, life, size, world.committed.get(0, 0)))
    return ledger


def alerts(world: World) -> list[tuple[str, str]]:
    found = [msgspec.json.decode(text) for _, text in world.alerts]
    return [(alert["alert_id"], alert["status"]) for alert in found]


def devices(world: World) -> dict[tuple[int, bytes], bytes]:
    return {key: value for key, value in world.states.items() if not key[1].startswith(b"\0")}


@pytest.mark.parametrize("size", [COUNT, 7, 2])
async def test_the_parts_are_stored_in_order_and_the_whole_is_acked_once(size: int) -> None:
    calm, world = World(), World()
    await live(calm, Life(), float("inf"))
    life = Life()
    ledger = await live(world, life, 1, size)
    assert alerts(world) == alerts(calm)
    assert world.store.rows == calm.store.rows
    assert (world.store.active_alerts, world.store.history) == (calm.store.active_alerts, calm.store.history)
    assert devices(world) == devices(calm)
    assert world.committed == {0: COUNT}
    assert life.trace.count("commit 0") == -(-COUNT // size)
    assert life.trace[-1] == "commit 0"
    assert sum(one.received for one in ledger.found) == COUNT
    assert life.trace.count("store") >= 10  # readings that open or close alerts


async def test_a_crash_at_any_step_loses_no_alert_and_doubles_none() -> None:
    calm, whole = World(), Life()
    await live(calm, whole, 1)
    expected = alerts(calm)
    for end in range(whole.ticks + 1):
        world = World()
        await live(world, Life(end), 1)
        assert world.committed.get(0, 0) in (0, COUNT)
        await live(world, Life(end // 2), 1, 5)  # dies as well
        await live(world, Life(), 1 if end % 2 else float("inf"))
        assert world.store.rows == calm.store.rows, end
        assert sorted(set(alerts(world))) == sorted(set(expected)), end
        assert (world.store.active_alerts, world.store.history) == (calm.store.active_alerts, calm.store.history), end
        assert devices(world) == devices(calm), end


async def test_a_rebalance_between_two_parts_leaves_the_rest_to_the_next_owner() -> None:
    calm, world, life = World(), World(), Life()
    await live(calm, Life(), float("inf"))
    (one,) = batches(world, life, COUNT)

    class GoesStale(MemoryOutbox):
        async def send(self, *given: Any) -> None:
            await super().send(*given)
            one.stale = len(world.alerts) >= 6

    worker = Worker(world, life, processor(world, 1), outbox=GoesStale(world, life.tick))
    await worker.run([one])
    assert not one.acked
    assert world.committed == {}
    assert 6 <= len(world.alerts) < len(calm.alerts)
    await live(world, Life(), float("inf"))
    assert set(alerts(world)) == set(alerts(calm))
    assert len(alerts(world)) - len(alerts(calm)) in (0, 3, 6)  # of parts that were stored, and not closed
    assert devices(world) == devices(calm)


class Closed(MemoryOutbox):
    """Kafka stands still until `opened`, or until the pipeline is interrupted."""

    def __init__(self, world: World, life: Life) -> None:
        super().__init__(world, life.tick)
        self.opened, self.interrupt, self.asked = asyncio.Event(), asyncio.Event(), 0

    async def send(self, events: Sequence[tuple[bytes, bytes]], *rest: Any) -> None:
        self.asked += len(events)
        waits = [asyncio.ensure_future(one.wait()) for one in (self.opened, self.interrupt)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
        if not self.opened.is_set():
            raise TransientError("interrupted")
        await super().send(events, *rest)


def standing(monkeypatch: pytest.MonkeyPatch) -> tuple[World, Worker, Closed, list[MemoryBatch]]:
    monkeypatch.setattr(finalizer, "UNCLOSED_MAX", 1)
    world, life = World(), Life()
    outbox = Closed(world, life)
    worker = Worker(world, life, processor(world, 1), outbox=outbox)
    outbox.interrupt = worker.interrupt
    return world, worker, outbox, batches(world, life, COUNT)


async def test_while_kafka_stands_still_no_more_alerts_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    world, worker, outbox, given = standing(monkeypatch)
    task = asyncio.create_task(worker.run(given))
    await until(lambda: outbox.asked > 0)
    for _ in range(200):  # turns of the event loop
        await asyncio.sleep(0)
    assert len(world.store.history) <= 3 * 2  # a part that closes and, processed meanwhile, the next
    outbox.opened.set()
    await task
    assert world.committed == {0: COUNT}


async def test_a_rebalance_ends_the_wait_for_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    world, worker, outbox, given = standing(monkeypatch)
    task = asyncio.create_task(worker.run(given))
    await until(lambda: outbox.asked > 0)
    given[0].stale = True
    async with asyncio.timeout(5):
        await worker.pipeline.drain(60)
    await task
    assert (world.alerts, given[0].acked) == ([], False)
    outbox.opened.set()
    again = MemoryBatch(world, worker.life.tick, 0, records(), epoch=2)
    await worker.run([again])
    assert again.acked
    assert len(set(alerts(world))) == len(alerts(world)) == len(world.store.history)


async def test_parts_of_joined_batches_are_acked_as_they_came() -> None:
    world, life = World(), Life()
    whole = batches(world, life, 5)
    first, rest = split(CoalescedBatch(whole), COUNT - 7)
    assert [record.offset for record in first.records] == list(range(7))
    assert (first.first_offset, first.next_offset, rest[0].first_offset) == (0, 7, 7)
    assert rest[1:] == whole[2:]
    second, others = split(rest[0], 1)
    assert isinstance(second, SplitBatch)
    assert (second.first_offset, second.next_offset, [one.whole for one in others]) == (7, 9, [whole[1]])  # type: ignore[attr-defined]
    await first.ack()
    await second.ack()
    assert [one.acked for one in whole] == [True, False, False, False]
    await others[0].ack()
    assert whole[1].acked
    whole[1].stale = True
    assert not first.current()
    assert not others[0].current()


async def test_a_thousand_parts_are_no_deeper_than_two() -> None:
    """A flood goes on: what is left over is joined with what comes, and cut again."""
    world, life = World(), Life()
    waiting: list[Any] = batches(world, life, 2)
    for _ in range(1000):
        _, rest = split(CoalescedBatch([*waiting, *batches(world, life, 2)][:9]), 3)
        waiting = rest
    deepest = waiting[0]
    while isinstance(deepest, SplitBatch):
        assert not isinstance(deepest.whole, SplitBatch | CoalescedBatch)
        deepest = deepest.whole
