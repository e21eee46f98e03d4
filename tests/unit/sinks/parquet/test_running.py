"""The Parquet sink with the runner, on a log in memory: kills between a flush and its dead letters, truncated logs."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from app.sinks.parquet.sink import ParquetSink
from app.sinks.record import SinkRecord
from app.sinks.sink_metrics import LOGS_ANEW
from tests.unit.sinks.parquet.lake import expected, files, named, places, settings
from tests.unit.sinks.running.world import World
from tests.waiting import until


class PoisonedSink(ParquetSink):
    """The reading of every seventh record fits no column."""

    def add(self, records: Sequence[SinkRecord]) -> None:
        super().add([_poisoned(one) if one.offset % 7 == 3 else one for one in records])


def _poisoned(record: SinkRecord) -> SinkRecord:
    return msgspec.structs.replace(record, reading=msgspec.structs.replace(record.reading, extra_json="\ud800"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Flushes are due at each read; no process runs yet."""
    made = World(2)
    await made.kill()
    made.made = lambda: _quick(PoisonedSink("parquet", settings(tmp_path), named()))
    yield made
    await made.kill()


def _quick(sink: ParquetSink) -> ParquetSink:
    sink.linger = 0.0
    return sink


REFUSED = [offset for offset in range(100) if offset % 7 == 3]


async def test_dead_letters_of_a_published_file_are_sent_after_a_kill(world: World, tmp_path: Path) -> None:
    world.letters.fails = 10**6
    world.log.append(0, 100)
    world.start()
    await world.consumer.assign(0)
    await until(lambda: len(places(tmp_path)) == 100 - len(REFUSED))
    await world.kill()
    assert not any(world.log.committed.values())
    world.letters.fails = 0
    world.start()
    await world.consumer.assign(0)
    world.log.append(0, 10)
    await world.done()
    assert sorted(set(world.letters.sent)) == [(0, offset) for offset in range(110) if offset % 7 == 3]
    assert places(tmp_path) == expected(offset for offset in range(110) if offset % 7 != 3)


async def test_dead_letters_of_a_published_file_are_sent_by_the_next_owner(world: World, tmp_path: Path) -> None:
    world.letters.fails = 10**6
    world.log.append(0, 100)
    world.start()
    await world.consumer.assign(0)
    await until(lambda: len(places(tmp_path)) == 100 - len(REFUSED))
    await world.consumer.assign(1)
    await until(lambda: world.consumer.settled)
    world.letters.fails = 0
    await world.consumer.assign(0)
    await world.done()
    assert world.letters.sent == [(0, offset) for offset in REFUSED]
    assert places(tmp_path) == expected(offset for offset in range(100) if offset % 7 != 3)
    assert world.runner.books.balance(world.sink.held.records) == 0


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("committed", [100, 40])
async def test_a_truncated_log_loses_and_repeats_no_row(
    world: World, tmp_path: Path, running: bool, committed: int
) -> None:
    """Offsets 0 to 59 are as before, other records begin at 60."""
    world.log.append(0, 100)
    world.start()
    await world.consumer.assign(0, 1)
    await world.done()
    if not running:
        await world.end()
    world.log.committed[0] = committed
    said = LOGS_ANEW.labels("parquet")._value.get()
    del world.log.records[0][60:]
    world.log.append(0, 30, temperature=99.5)
    if not running:
        world.start()
        await world.consumer.assign(0, 1)
    await until(lambda: world.log.committed.get(0) == 90)
    world.log.append(0, 40, temperature=99.5)
    await world.done()
    await world.end()
    world.start()
    await world.consumer.assign(0, 1)
    world.log.append(0, 5, temperature=99.5)
    await world.done()
    assert LOGS_ANEW.labels("parquet")._value.get() - said == 1, "decided once"
    good = [offset for offset in range(135) if offset % 7 != 3]
    old = [offset for offset in good if offset < 100]
    new = [offset for offset in good if offset >= 60]
    assert _of(tmp_path, 99.5) == new
    assert _of(tmp_path, 20.5) == old
    assert world.runner.books.balance(world.sink.held.records) == 0


def _of(root: Path, temperature: float) -> list[int]:
    """The offsets of all rows with this temperature."""
    found = [row for path in files(root) for row in pq.ParquetFile(path).read().to_pylist()]
    return sorted(row["kafka_offset"] for row in found if row["temperature"] == temperature)
