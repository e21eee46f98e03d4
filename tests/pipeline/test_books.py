"""Bugs planted in the steps of the path: the books of the batch do not balance, and it is never acknowledged."""

from typing import Any

import pytest

from app.core.batch.effects import WriteResult
from app.core.batch.output import BatchOutput
from app.core.decode.decoder import DecodeLimits
from app.core.processing.processor import Processor
from app.core.user_config.rulebook import RuleBook
from app.errors import BooksError
from tests import DEFAULT
from tests.pipeline.world import Life, MemoryBatch, MemoryStore, Worker, World
from tests.unit.records import NOW, Message

COUNT = 20


def payload(number: int) -> bytes:
    return b'{"time":"%s","sequence_id":%d}' % (NOW.isoformat().encode(), number)


def honest(batch: Any, now: float) -> BatchOutput:
    process = Processor(DecodeLimits(), DEFAULT, RuleBook(DEFAULT), lambda partition, key: None)
    return process(batch, NOW.timestamp())


def loses_a_row(batch: Any, now: float) -> BatchOutput:
    work = honest(batch, now)
    work.rows.pop(7)
    work.sources.pop(7)
    return work


def doubles_a_row(batch: Any, now: float) -> BatchOutput:
    work = honest(batch, now)
    work.rows.append(work.rows[3])
    work.sources.append(work.sources[3])
    return work


def loses_one_and_doubles_another(batch: Any, now: float) -> BatchOutput:
    work = honest(batch, now)
    work.rows[2], work.sources[2] = work.rows[3], work.sources[3]
    return work


def forgets_a_dead_letter(batch: Any, now: float) -> BatchOutput:
    work = honest(batch, now)
    work.rejected.clear()
    return work


class SkipsARow(MemoryStore):
    async def write(self, rows: Any, effects: Any = (), origin: Any = None) -> WriteResult:
        return await super().write(rows[:-1], effects, origin)


class CountsTwice(MemoryStore):
    async def write(self, rows: Any, effects: Any = (), origin: Any = None) -> WriteResult:
        written = await super().write(rows, effects, origin)
        return WriteResult(written.rows + 1, written.duplicates, written.refused, written.refused_effects)


async def run(process: Any, store: type[MemoryStore] = MemoryStore) -> tuple[World, MemoryBatch]:
    world, life = World(), Life()
    records = [Message(payload(n), offset=n) for n in range(COUNT)]
    records[5] = Message(b"bad", offset=5)
    batch = MemoryBatch(world, life.tick, 0, records)
    await Worker(world, life, process, store=store(world, life.tick)).run([batch])
    return world, batch


async def test_without_a_bug_it_is_acknowledged() -> None:
    world, batch = await run(honest)
    assert (len(world.store.rows), len(world.letters), world.committed) == (COUNT - 1, 1, {0: COUNT})
    assert batch.acked


BUGS = [loses_a_row, doubles_a_row, loses_one_and_doubles_another, forgets_a_dead_letter]


@pytest.mark.parametrize("bug", BUGS)
async def test_a_bug_in_step_2(bug: Any) -> None:
    with pytest.raises(BooksError):
        await run(bug)


@pytest.mark.parametrize("store", [SkipsARow, CountsTwice])
async def test_a_bug_in_step_4(store: type[MemoryStore]) -> None:
    with pytest.raises(BooksError):
        await run(honest, store)


@pytest.mark.parametrize("bug", BUGS)
async def test_nothing_is_committed(bug: Any) -> None:
    world, life = World(), Life()
    batch = MemoryBatch(
        world, life.tick, 0, [Message(b"bad", offset=0), *(Message(payload(n), offset=n) for n in range(1, 20))]
    )
    with pytest.raises(BooksError):
        await Worker(world, life, bug).run([batch])
    assert not batch.acked
    assert world.committed == {}
    assert world.alerts == []
