"""Whether our partitions are surely ours: counted from before Kafka was asked, and waited for when it is not known."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from app.errors import TransientError
from app.kafka.session_lease import SessionLease, boottime

SESSION = 10.0


class Clock:
    """Stands still."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def lease(clock: Clock) -> SessionLease:
    return SessionLease(SESSION, asyncio.Event(), clock)


async def waits(lease: SessionLease) -> "asyncio.Task[None]":
    """A task that waits for the lease by now."""
    task = asyncio.create_task(lease.ensure())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_it_begins_with_the_first_answer(lease: SessionLease, clock: Clock) -> None:
    assert not lease.valid()
    lease.renew(clock.now)
    assert lease.valid()
    await lease.ensure()


async def test_it_is_counted_from_before_kafka_was_asked(lease: SessionLease, clock: Clock) -> None:
    asked, clock.now = clock.now, clock.now + 4
    lease.renew(asked)
    clock.now = asked + SESSION - 0.01
    assert lease.valid()
    clock.now = asked + SESSION
    assert not lease.valid()


async def test_an_answer_to_what_was_asked_before_a_stall_renews_nothing(lease: SessionLease, clock: Clock) -> None:
    asked, clock.now = clock.now, clock.now + SESSION + 1
    lease.renew(asked)
    waiting = await waits(lease)
    lease.renew(asked)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    lease.renew(clock.now)
    await waiting


async def test_whoever_waits_goes_on_when_another_thread_renews_it(lease: SessionLease, clock: Clock) -> None:
    waiting = [await waits(lease), await waits(lease)]
    thread = threading.Thread(target=lease.renew, args=(clock.now,))
    thread.start()
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
    thread.join()
    assert not lease._waiting


async def test_being_interrupted_ends_the_waiting(clock: Clock) -> None:
    interrupt = asyncio.Event()
    lease = SessionLease(SESSION, interrupt, clock)
    waiting = await waits(lease)
    interrupt.set()
    with pytest.raises(TransientError, match="may have given the partitions to others"):
        await waiting
    with pytest.raises(TransientError):
        await lease.ensure()
    assert not lease._waiting


async def test_while_it_lasts_giving_up_is_no_reason_not_to_write(clock: Clock) -> None:
    """A rebalance lets running batches end."""
    interrupt = asyncio.Event()
    lease = SessionLease(SESSION, interrupt, clock)
    interrupt.set()
    lease.renew(clock.now)
    await lease.ensure()


async def test_once_expelled_an_older_answer_counts_for_nothing(lease: SessionLease, clock: Clock) -> None:
    lease.renew(clock.now)
    asked, clock.now = clock.now + 1, clock.now + 2
    lease.end()
    assert not lease.valid()
    lease.renew(asked)
    assert not lease.valid()
    clock.now += 1
    lease.renew(clock.now)
    assert lease.valid()


def test_the_clock_goes_on() -> None:
    before = boottime()
    assert 0 <= boottime() - before < 60


class Coordinator:
    """What is used of aiokafka's; tests/contract/stream/test_aiokafka_internals.py compares."""

    def __init__(self, clock: Clock) -> None:
        self.code, self.resets, self._clock = 0, 0, clock

    async def _send_req(self, request: Any) -> Any:
        self._clock.now += 1
        return SimpleNamespace(error_code=self.code)

    def reset_generation(self) -> None:
        self.resets += 1


HEARTBEAT = HeartbeatRequest("group", 1, "member")
SYNC = SyncGroupRequest("group", 1, "member", None, [])
JOIN = JoinGroupRequest("group", 1, 1, "member", None, "consumer", [])


@pytest.mark.parametrize(
    ("request_", "code", "renewed"),
    [
        (HEARTBEAT, 0, True),
        (HEARTBEAT, RebalanceInProgressError.errno, True),
        (SYNC, 0, True),
        (JOIN, 0, False),
        (HEARTBEAT, UnknownMemberIdError.errno, False),
        (HEARTBEAT, IllegalGenerationError.errno, False),
    ],
)
async def test_what_renews_it(lease: SessionLease, clock: Clock, request_: Any, code: int, renewed: bool) -> None:
    coordinator: Any = Coordinator(clock)
    coordinator.code = code
    lease.follow(coordinator)
    assert (await coordinator._send_req(request_)).error_code == code
    assert lease.valid() is renewed
    if renewed:
        clock.now += SESSION - 1  # the request took a second
        assert not lease.valid()


async def test_a_coordinator_that_resets_its_generation_ends_it(lease: SessionLease, clock: Clock) -> None:
    coordinator: Any = Coordinator(clock)
    lease.follow(coordinator)
    await coordinator._send_req(HEARTBEAT)
    coordinator.reset_generation()
    assert (lease.valid(), coordinator.resets) == (False, 1)
