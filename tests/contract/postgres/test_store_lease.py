"""A write that has waited for its turn begins no transaction while the partitions may be somebody else's."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from pydantic import SecretStr

from app.core.batch.effects import WriteResult
from app.errors import TransientError
from app.kafka.session_lease import SessionLease
from app.postgres.circuit_breaker import BreakerState
from app.postgres.store.store import TimescaleStore
from app.settings import Settings
from tests.contract.postgres.test_store import row
from tests.waiting import until

pytestmark = pytest.mark.integration

SESSION = 10.0


class Subject:
    """A store with one lane, and a lease on a clock that stands still."""

    def __init__(self, database: str) -> None:
        self.now, self.database, self.interrupt = 100.0, database, asyncio.Event()
        self.lease = SessionLease(SESSION, self.interrupt, lambda: self.now)
        settings = Settings(database_url=SecretStr(database), writes_in_flight=1)
        self.store = TimescaleStore(settings, self.interrupt, lease=self.lease)

    async def rows(self) -> list[int]:
        connection = await asyncpg.connect(self.database)
        try:
            found = await connection.fetch("SELECT sequence_id FROM raw_telemetry ORDER BY 1")
            return [one[0] for one in found]
        finally:
            await connection.close()

    async def waits(self) -> None:
        """Until somebody waits for the lease."""
        await until(lambda: bool(self.lease._waiting), 30)


@pytest.fixture
async def subject(database: str) -> AsyncIterator[Subject]:
    made = Subject(database)
    await made.store.start()
    yield made
    await made.store.stop()


async def test_what_waited_for_a_lane_asks_again_before_it_begins(subject: Subject) -> None:
    subject.lease.renew(subject.now)
    other = await asyncpg.connect(subject.database)
    lock = other.transaction()
    await lock.start()
    await other.execute("LOCK TABLE raw_telemetry IN EXCLUSIVE MODE")
    first = asyncio.create_task(subject.store.write([row(1)]))
    await until(lambda: bool(subject.store._live._running), 30)
    asked = "SELECT count(*) FROM pg_locks WHERE relation = 'raw_telemetry'::regclass AND NOT granted"
    while not await other.fetchval(asked):
        pass
    second = asyncio.create_task(subject.store.write([row(2)]))
    subject.now += SESSION + 1  # stalled: somebody else may have the partitions
    await lock.rollback()
    assert await first == WriteResult(1)  # the write had begun
    await subject.waits()
    assert await subject.rows() == [1]
    assert not second.done()
    subject.lease.renew(subject.now)
    assert await second == WriteResult(1)
    assert await subject.rows() == [1, 2]
    await other.close()


async def test_interrupted_while_it_is_not_sure(subject: Subject) -> None:
    write = asyncio.create_task(subject.store.write([row(1)]))
    await subject.waits()
    subject.interrupt.set()
    with pytest.raises(TransientError):
        await write
    assert await subject.rows() == []
    assert subject.store.breaker_state is BreakerState.CLOSED  # this says nothing of the database
    subject.interrupt.clear()
    subject.lease.renew(subject.now)
    assert await subject.store.write([row(1)]) == WriteResult(1)
