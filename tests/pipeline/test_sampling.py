"""Change of value and rolling averages on the path, with a crash at every step: what was decided stays decided."""

import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from app.core.batch.batch import Batch
from app.core.batch.books import Books, books
from app.core.batch.effects import WriteResult
from app.core.batch.output import BatchOutput
from app.core.decode.decoder import DecodeLimits
from app.core.processing.processor import Processor
from app.core.user_config.rulebook import RuleBook
from app.ports import Seconds
from tests import DEFAULT
from tests.pipeline.world import Crash, Life, MemoryBatch, MemoryLedger, Worker, World
from tests.unit.readings import rule
from tests.unit.records import Message

NOW = float(int(time.time()))
START = datetime.fromtimestamp(NOW, UTC) - timedelta(hours=1)
DOCUMENT = {
    "rules": [rule("temperature", ">", 80)],
    "sampling": {
        "cov": [{"keys": {"temperature": {"absolute": 1}}, "heartbeat_seconds": 60}],
        "averages": [{"key": "temperature", "seconds": 60}],
    },
}
VALUES = [20, 20.5, 22, 79.5, 80.4, 80.6, 79.6, 79, 79.5, 40, 40, 40]
KEPT = [0, 2, 3, 4, 6, 9]  # 4 opens an alert and 6 ends it, both within the dead-band
COUNT = 24  # two devices, one after the other


def records() -> list[Message]:
    made = []
    for offset in range(COUNT):
        place, device = offset // 2, f"d{offset % 2}"
        body = {"time": START + timedelta(seconds=place), "sequence_id": place, "temperature": VALUES[place]}
        topic = ("mqtt_topic", f"users/u/devices/{device}/telemetry".encode())
        made.append(Message(msgspec.json.encode(body), (topic,), f"u/{device}".encode(), int(NOW * 1000), offset))
    return made


class Counting(MemoryLedger):
    """A ledger that balances the books of every batch, as the real one does."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Books] = []

    def batch_done(self, batch: Batch, work: BatchOutput, written: WriteResult, seconds: Seconds) -> None:
        super().batch_done(batch, work, written, seconds)
        self.found.append(books(batch.records, work, written))


async def live(world: World, life: Life, size: int, first: int) -> Counting:
    """A worker's life from offset `first` on, in batches of `size`."""
    book, ledger, every = RuleBook(DEFAULT), Counting(), records()
    assert book.apply([("u", msgspec.json.encode(DOCUMENT).decode())]) == []
    process = Processor(DecodeLimits(), DEFAULT, book, world.load)
    worker = Worker(world, life, lambda batch, _: process(batch, NOW), ledger=ledger)
    batches = [MemoryBatch(world, life.tick, 0, every[at : at + size]) for at in range(first, COUNT, size)]
    with contextlib.suppress(Crash):
        await worker.run(batches)
    return ledger


def stored(world: World) -> list[tuple[str, int]]:
    return sorted((row[2], row[3]) for row in world.store.rows.values())


EXPECTED = [(device, place) for device in ("d0", "d1") for place in KEPT]


async def test_the_rows_the_books_and_the_averages() -> None:
    world = World()
    ledger = await live(world, Life(), 5, 0)
    assert stored(world) == EXPECTED
    assert sum(one.dropped_by_policy for one in ledger.found) == COUNT - len(EXPECTED)
    assert sum(one.stored for one in ledger.found) == len(EXPECTED)
    mean = sum(VALUES) / len(VALUES)
    time = START + timedelta(seconds=11)
    expected = [("u", device, "temperature", 60, time, 12, mean, 20, 80.6, "") for device in ("d0", "d1")]
    assert sorted(world.store.averages.values()) == expected


async def test_a_crash_at_any_step_stores_what_would_have_been_stored_and_nothing_else() -> None:
    whole = Life()
    await live(World(), whole, 5, 0)
    calm = World()
    await live(calm, Life(), 5, 0)
    for end in range(whole.ticks + 1):
        for size in (5, 3, COUNT):
            world = World()
            await live(world, Life(end), 5, 0)
            await live(world, Life(end // 2), size, world.committed.get(0, 0))  # dies as well
            await live(world, Life(), size, world.committed.get(0, 0))
            assert stored(world) == EXPECTED, (end, size)
            assert world.store.averages == calm.store.averages, (end, size)
            reported = {(alert["alert_id"], alert["status"]) for alert in map(decoded, world.alerts)}
            assert len(reported) == 4, (end, size)


def decoded(alert: tuple[bytes, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(alert[1])
    return found
