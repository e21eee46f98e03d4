"""A worker that dies at any step of any batch, and the next one that goes on from the committed offsets.

The real Processor and device states over the ports in memory. Whatever the crashes: every row and dead letter once,
and the alerts (by alert_id and status) of a run that never crashed.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from app.core.decode import Limits
from app.core.process import MARK_KEY, Processor
from app.core.rulebook import RuleBook
from app.core.state import decode
from tests.pipeline.world import Crash, Life, MemoryBatch, Worker, World
from tests.unit.records import Message

NOW = datetime.fromtimestamp(int(time.time()), UTC) - timedelta(hours=1)
RULES = [
    {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"},
    {"key": "battery", "operator": "<", "threshold": 10, "message": "low"},
]
HOT, COLD, LOW, BAD = ("temperature", 90), ("temperature", 20), ("battery", 5), None
# Per partition (one user each): (device, what). Episodes open, go on, close and open again; bad records between.
SCRIPT: dict[int, list[tuple[str, Any]]] = {
    0: [("a", HOT), ("b", COLD), ("a", BAD), ("a", COLD), ("b", LOW), ("a", HOT), ("b", BAD), ("a", COLD)],
    1: [("c", COLD), ("c", HOT), ("c", HOT), ("c", BAD), ("c", COLD), ("c", LOW)],
}
SIZE = 3  # records in a batch


def record(partition: int, offset: int, device: str, what: Any) -> Message:
    user = f"u{partition}"
    body: dict[str, Any] = {"time": NOW + timedelta(seconds=offset), "sequence_id": offset}
    if what is not BAD:
        body[what[0]] = what[1]
    payload = b"{broken" if what is BAD else msgspec.json.encode(body)
    topic = f"users/{user}/devices/{device}/telemetry".encode()
    return Message(payload, (("mqtt_topic", topic),), f"{user}/{device}".encode(), offset=offset)


LOG = {
    partition: [record(partition, offset, *entry) for offset, entry in enumerate(entries)]
    for partition, entries in SCRIPT.items()
}


def batches(world: World, life: Life) -> list[MemoryBatch]:
    """From the committed offsets on, the partitions in turn."""
    found = []
    for partition, log in LOG.items():
        start = world.committed.get(partition, 0)
        cuts = [log[first : first + SIZE] for first in range(start, len(log), SIZE)]
        found += [(number, MemoryBatch(world, life.tick, partition, cut)) for number, cut in enumerate(cuts)]
    return [batch for _, batch in sorted(found, key=lambda one: one[0])]


async def live(world: World, end: int | None) -> Life:
    """One process, from its start to its end or its death at tick `end`."""
    rules = RuleBook()
    assert rules.apply((f"u{partition}", msgspec.json.encode(RULES).decode()) for partition in LOG) == []
    life = Life(end)
    worker = Worker(world, life, Processor(Limits(), rules, world.load), slots=3)
    try:
        await worker.run(batches(world, life))
    except Crash:
        assert life.dead
    return life


async def lives(ends: Sequence[int | None]) -> World:
    world = World()
    for end in ends:
        await live(world, end)
    return world


def alerts(world: World) -> list[tuple[str, str]]:
    """(alert_id, status) in the order of their first time."""
    events = [msgspec.json.decode(value) for _, value in world.alerts]
    return list(dict.fromkeys((event["alert_id"], event["status"]) for event in events))


def of_user(world: World, user: str) -> list[tuple[str, str]]:
    """Alerts of one user: those of a partition have an order, those of two have none."""
    ids = {e["alert_id"] for e in (msgspec.json.decode(v) for _, v in world.alerts) if e["user_id"] == user}
    return [one for one in alerts(world) if one[0] in ids]


def states(world: World) -> dict[tuple[int, bytes], Any]:
    return {key: decode(value) for key, value in world.states.items() if key[1] != MARK_KEY}


def marks(world: World) -> dict[int, int]:
    return {partition: int(value) for (partition, key), value in world.states.items() if key == MARK_KEY}


@pytest.fixture(scope="module")
def calm() -> World:
    """The world after one life without a crash."""
    world = asyncio.run(lives([None]))
    assert len(world.store.rows) == world.stored == 11
    assert sorted(world.letters) == [(0, 2, "bad_json"), (0, 6, "bad_json"), (1, 3, "bad_json")]
    assert len(world.alerts) == len(alerts(world)) == 8
    assert world.committed == {0: 8, 1: 6}
    return world


def check(world: World, calm: World) -> None:
    assert world.store.rows == calm.store.rows
    assert world.stored == len(calm.store.rows)  # by the store's own count none was stored twice
    assert sorted(world.letters) == sorted(calm.letters)
    for user in ("u0", "u1"):
        assert of_user(world, user) == of_user(calm, user)
    assert states(world) == states(calm)
    assert all(offset <= marks(calm)[partition] for partition, offset in marks(world).items())  # it may lag behind
    assert world.committed == calm.committed


def steps(calm: World) -> int:
    life = asyncio.run(live(World(), None))
    return life.ticks


def test_a_crash_at_any_step(calm: World) -> None:
    count = steps(calm)
    assert count > 50
    died = 0
    for end in range(count):
        world = World()
        died += asyncio.run(live(world, end)).dead
        asyncio.run(live(world, None))
        check(world, calm)
    assert died == count


def test_several_crashes_one_after_another(calm: World) -> None:
    count = steps(calm)
    for seed in range(150):
        chosen = random.Random(seed)
        ends = [chosen.randrange(count) for _ in range(chosen.randrange(2, 5))]
        try:
            check(asyncio.run(lives([*ends, None])), calm)
        except AssertionError as error:
            raise AssertionError(f"after crashes at {ends}") from error


def test_a_replay_from_the_start_stores_and_tells_nothing(calm: World) -> None:
    world = asyncio.run(lives([None]))
    told = len(world.alerts)
    world.committed.clear()
    asyncio.run(live(world, None))
    check(world, calm)
    assert len(world.alerts) == told


def test_this_test_would_notice_a_commit_before_the_state(calm: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same crashes with ack and states the other way round: some schedule loses an episode."""
    from app.pipeline import Pipeline

    async def hasty(self: Any, together: Any) -> None:
        for one in together:
            await one.batch.ack()
            await self._ports.outbox.send(one.work.alerts)
            await self._ports.states.put({one.batch.partition: one.work.states})

    monkeypatch.setattr(Pipeline, "_close", hasty)
    different = 0
    for end in range(steps(calm)):
        world = asyncio.run(lives([end, None]))
        different += alerts(world) != alerts(calm) or states(world) != states(calm)
    assert different > 5
