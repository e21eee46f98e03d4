"""Which writes share a transaction: writes that wait for a lane, and small writes that follow closely."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from app.core.batch.effects import WriteResult
from app.ports import Unlimited
from app.postgres.circuit_breaker import Breaker
from app.postgres.events import NoStoreEvents
from app.postgres.operator_advice import Advice
from app.postgres.store import write_queue
from app.postgres.store.late_horizon import LateHorizon
from app.postgres.store.store import LiveWrites
from app.postgres.store.write_queue import PendingWrite, StoreContext, WriteQueue
from app.runtime.interrupt import Interrupt
from app.runtime.tracing.tracing import CURRENT, TraceSpan

ROW = (datetime(2026, 5, 4, tzinfo=UTC), "u1", "d1", 1)


class Groups:
    """Work that notes how many rows each write of a transaction has."""

    part = "writes"

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.spans: list[TraceSpan | None] = []  # within which each transaction is
        self.go_on = asyncio.Event()  # a transaction ends once this is set
        self.go_on.set()

    def take(self, waiting: deque[PendingWrite]) -> list[PendingWrite]:
        return LiveWrites(500).take(waiting)

    async def store(self, session: Any, group: Sequence[PendingWrite]) -> int:
        self.seen.append([len(pending.rows) for pending in group])
        self.spans.append(CURRENT.get())
        await self.go_on.wait()
        await asyncio.sleep(0.001)
        for pending in group:
            pending.settle(WriteResult(len(pending.rows)))
        return 0

    def outage(self, error: BaseException) -> bool:
        return True


class Lane:
    """Always connected."""

    session: Any = SimpleNamespace(lease=Unlimited(), connection=SimpleNamespace(is_closed=lambda: False))

    def deadline(self) -> AbstractContextManager[None]:
        return nullcontext()

    def drop(self) -> None: ...

    async def close(self) -> None: ...


@pytest.fixture
async def groups() -> AsyncIterator[tuple[WriteQueue, Groups]]:
    events, work = NoStoreEvents(), Groups()
    shared = StoreContext(
        Breaker(5, 1.0, 2.0, events), Interrupt(asyncio.Event()), LateHorizon(1.0), Advice(events), events
    )
    lanes: Any = [Lane() for _ in range(3)]
    store = WriteQueue(lanes, work, shared)
    yield store, work
    await store.stop(1.0)


async def one_after_another(store: WriteQueue, *sizes: int) -> None:
    """Writes of so many rows, a few turns of the loop apart."""
    writes = []
    for size in sizes:
        writes.append(asyncio.ensure_future(store.write([ROW] * size)))
        for _ in range(5):
            await asyncio.sleep(0)
    await asyncio.gather(*writes)


async def test_a_lone_write_waits_for_nobody(
    groups: tuple[WriteQueue, Groups], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "SHARE_SECONDS", 60.0)
    monkeypatch.setattr(write_queue, "BUSY_SECONDS", 0.0)
    store, work = groups
    await asyncio.wait_for(one_after_another(store, 1, 2), 10)
    assert work.seen == [[1], [2]]


async def test_small_writes_that_follow_closely_share(
    groups: tuple[WriteQueue, Groups], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "SHARE_SECONDS", 0.3)
    monkeypatch.setattr(write_queue, "BUSY_SECONDS", 60.0)
    store, work = groups
    store._dispatched = asyncio.get_running_loop().time()
    await one_after_another(store, 1, 2, 3)
    assert work.seen == [[1, 2, 3]]


async def test_a_large_write_waits_for_nobody(
    groups: tuple[WriteQueue, Groups], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "SHARE_SECONDS", 60.0)
    monkeypatch.setattr(write_queue, "BUSY_SECONDS", 60.0)
    store, work = groups
    store._dispatched = asyncio.get_running_loop().time()
    await asyncio.wait_for(one_after_another(store, 100, 400), 10)
    assert work.seen == [[100], [400]]


async def test_those_that_waited_for_a_lane_share_the_first_one_free(groups: tuple[WriteQueue, Groups]) -> None:
    store, work = groups
    work.go_on.clear()
    writing = asyncio.ensure_future(one_after_another(store, 400, 400, 400, 100, 100, 200, 200))
    for _ in range(100):  # all are there before a lane is free, however busy the machine is
        await asyncio.sleep(0)
    work.go_on.set()
    await writing
    assert work.seen == [[400], [400], [400], [100, 100, 200], [200]]


async def test_a_transaction_is_within_the_span_of_its_first_write(groups: tuple[WriteQueue, Groups]) -> None:
    """Also a write that waited for a transaction of other writes: its task is made where that transaction ends."""
    store, work = groups
    spans: list[TraceSpan | None] = [TraceSpan(), TraceSpan(), TraceSpan(), None, TraceSpan()]

    async def write(span: TraceSpan | None) -> None:
        CURRENT.set(span)
        await store.write([ROW] * 400)

    work.go_on.clear()
    writing = [asyncio.ensure_future(write(span)) for span in spans]
    for _ in range(100):
        await asyncio.sleep(0)
    work.go_on.set()
    await asyncio.gather(*writing)
    assert work.spans == spans


async def test_a_queue_that_is_stopped_begins_nothing(
    groups: tuple[WriteQueue, Groups], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "SHARE_SECONDS", 0.05)
    monkeypatch.setattr(write_queue, "BUSY_SECONDS", 60.0)
    store, work = groups
    store._dispatched = asyncio.get_running_loop().time()
    write = asyncio.ensure_future(store.write([ROW]))
    await asyncio.sleep(0)
    await store.stop(0.0)
    await asyncio.sleep(0.1)
    assert work.seen == []
    write.cancel()
    await asyncio.wait({write})
    await asyncio.wait_for(store.write([ROW] * 2), 10)  # started again
    assert work.seen == [[2]]
