"""The circuit breaker on a clock turned by hand."""

import asyncio
import math

import asyncpg
import pytest

from app.errors import TransientError
from app.postgres.circuit_breaker import JITTER, Breaker, BreakerState
from app.runtime.interrupt import Interrupt
from app.settings import Settings


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class ReportedEvents:
    """What the breaker reported, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.waits: list[float] = []

    def breaker_opened(self, wait: float, error: str) -> None:
        self.events.append(f"opened: {error}")
        self.waits.append(wait)

    def breaker_half_open(self) -> None:
        self.events.append("half-open")

    def breaker_closed(self) -> None:
        self.events.append("closed")

    def write_rejected(self) -> None:
        self.events.append("rejected")


def made(reset_min: float = 5, reset_max: float = 60) -> tuple[Breaker, Clock, ReportedEvents]:
    clock, reported = Clock(), ReportedEvents()
    return Breaker(3, reset_min, reset_max, reported, clock), clock, reported


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(ConnectionRefusedError("refused"))


def test_opens_after_failures_in_a_row() -> None:
    breaker, _, reported = made()
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert (breaker.state, breaker.admit(), reported.events) == (BreakerState.CLOSED, 0, [])
    fail(breaker)
    assert breaker.state is BreakerState.OPEN
    assert reported.events == ["opened: ConnectionRefusedError: refused"]
    assert breaker.admit() == pytest.approx(reported.waits[0])


def test_lets_one_try_when_due_and_closes_when_it_succeeds() -> None:
    breaker, clock, reported = made()
    fail(breaker, 3)
    clock.now += reported.waits[0]
    assert breaker.admit() == 0
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.admit() == math.inf
    breaker.succeeded()
    assert (breaker.state, breaker.admit()) == (BreakerState.CLOSED, 0)
    assert reported.events[1:] == ["half-open", "closed"]


def test_waits_double_to_the_longest_and_start_over_once_closed() -> None:
    breaker, clock, reported = made()
    fail(breaker, 3)
    for _ in range(7):
        clock.now += 61
        assert breaker.admit() == 0
        fail(breaker)
    for wait, middle in zip(reported.waits, [5, 10, 20, 40, 60, 60, 60, 60], strict=True):
        assert middle * (1 - JITTER) <= wait <= min(middle * (1 + JITTER), 60)
    clock.now += 61
    breaker.admit()
    breaker.succeeded()
    fail(breaker, 3)
    assert reported.waits[-1] <= 5 * (1 + JITTER)


def test_failures_that_began_before_the_opening_do_not_count() -> None:
    breaker, _, reported = made()
    fail(breaker, 6)
    assert len(reported.waits) == 1


def test_a_late_success_closes() -> None:
    breaker, _, _ = made()
    fail(breaker, 3)
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED


def test_an_abandoned_try_leaves_its_place_to_the_next() -> None:
    breaker, clock, _ = made()
    fail(breaker, 3)
    clock.now += 10
    assert breaker.admit() == 0
    breaker.abandoned()
    assert breaker.admit() == 0


async def test_waiters_go_on_one_by_one_and_then_all() -> None:
    reported = ReportedEvents()
    breaker = Breaker(3, 0.05, 0.05, reported)
    fail(breaker, 3)
    interrupt = Interrupt(asyncio.Event())
    waiters = [asyncio.create_task(breaker.enter(interrupt)) for _ in range(4)]
    done, waiting = await asyncio.wait(waiters, timeout=0.2)
    assert (len(done), len(waiting), breaker.state) == (1, 3, BreakerState.HALF_OPEN)
    breaker.succeeded()
    await asyncio.wait_for(asyncio.gather(*waiters), 1)
    assert reported.events.count("rejected") == 4


async def test_the_interrupt_ends_the_wait() -> None:
    breaker, _, _ = made()
    fail(breaker, 3)
    event = asyncio.Event()
    waiter = asyncio.create_task(breaker.enter(Interrupt(event)))
    await asyncio.sleep(0.01)
    event.set()
    with pytest.raises(TransientError):
        await asyncio.wait_for(waiter, 1)


def test_the_settings_are_five_failures_and_five_to_sixty_seconds() -> None:
    settings = Settings()
    assert (settings.breaker_failures, settings.breaker_reset_min, settings.breaker_reset_max) == (5, 5, 60)


def test_a_database_that_answers_again_ends_the_wait() -> None:
    breaker, clock, reported = made()
    breaker.bring_forward()
    assert breaker.admit() == 0
    fail(breaker, 3)
    assert breaker.unreachable
    breaker.bring_forward()
    assert (breaker.admit(), breaker.admit(), breaker.state) == (0, math.inf, BreakerState.HALF_OPEN)
    fail(breaker)
    assert not breaker.unreachable  # not for the first time
    assert breaker.admit() == pytest.approx(reported.waits[1])
    assert reported.waits[1] >= 10 * (1 - JITTER)
    clock.now += 61
    assert breaker.admit() == 0
    breaker.answered()
    assert (breaker.state, reported.events[-1]) == (BreakerState.CLOSED, "closed")


def test_a_refusal_is_not_being_unreachable() -> None:
    breaker, _, _ = made()
    for _ in range(3):
        breaker.failed(asyncpg.UndefinedTableError("no such table"))
    assert (breaker.state, breaker.unreachable) == (BreakerState.OPEN, False)


async def test_bringing_forward_wakes_those_who_wait() -> None:
    breaker, _, _ = made()
    fail(breaker, 3)
    waiter = asyncio.create_task(breaker.enter(Interrupt(asyncio.Event())))
    await asyncio.sleep(0.01)
    breaker.bring_forward()
    await asyncio.wait_for(waiter, 1)
