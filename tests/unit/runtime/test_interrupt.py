"""Waiting for work or an event, whichever comes first."""

import asyncio

import pytest

from app.errors import TransientError
from app.runtime.interrupt import Interrupt, set_within


async def forever(begun: list[str], ended: list[str]) -> None:
    begun.append("begun")
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("ended")


async def test_work_that_ends_first_gives_its_result_or_its_error() -> None:
    interrupt = Interrupt(asyncio.Event())
    assert await interrupt.race(asyncio.sleep(0, "result")) == "result"
    with pytest.raises(ZeroDivisionError):
        await interrupt.race(divide())


async def divide() -> float:
    await asyncio.sleep(0)
    return 1 / 0


async def test_the_event_ends_the_work() -> None:
    event, begun, ended = asyncio.Event(), list[str](), list[str]()
    asyncio.get_running_loop().call_later(0.01, event.set)
    with pytest.raises(TransientError, match="why"):
        await Interrupt(event).race(forever(begun, ended), reason="why")
    assert (begun, ended) == (["begun"], ["ended"])


async def test_an_event_that_is_set_keeps_work_from_beginning() -> None:
    event, begun = asyncio.Event(), list[str]()
    event.set()
    with pytest.raises(TransientError):
        await Interrupt(event).race(forever(begun, []))
    assert begun == []


async def test_work_may_have_some_time_left_after_the_event() -> None:
    event = asyncio.Event()
    event.set()
    interrupt = Interrupt(event)
    assert await interrupt.race(asyncio.sleep(0.01, "late"), seconds=1) == "late"
    with pytest.raises(TransientError):
        await interrupt.race(asyncio.sleep(1), seconds=0.01)


async def test_whoever_is_cancelled_cancels_the_work() -> None:
    begun, ended = list[str](), list[str]()
    waiter = asyncio.create_task(Interrupt(asyncio.Event()).race(forever(begun, ended)))
    await asyncio.sleep(0.01)
    waiter.cancel()
    await asyncio.wait({waiter})
    assert (waiter.cancelled(), ended) == (True, ["ended"])


async def test_all_who_wait_are_interrupted_and_later_ones_wait_again() -> None:
    event = asyncio.Event()
    interrupt, work = Interrupt(event), asyncio.get_running_loop().create_future()
    waiters = [asyncio.create_task(interrupt.first_of(work)) for _ in range(3)]
    await asyncio.sleep(0.01)
    event.set()
    event.clear()  # whoever waits now is interrupted all the same
    await asyncio.wait_for(asyncio.gather(*waiters), 1)
    assert not work.done()
    later = asyncio.create_task(interrupt.first_of(work))
    await asyncio.sleep(0.01)
    assert not later.done()
    work.set_result(None)
    await asyncio.wait_for(later, 1)


async def test_a_pause_ends_early_and_a_sleep_raises() -> None:
    event = asyncio.Event()
    interrupt = Interrupt(event)
    await interrupt.sleep(0.01)
    event.set()
    await asyncio.wait_for(interrupt.pause(60), 1)
    with pytest.raises(TransientError):
        await asyncio.wait_for(interrupt.sleep(60), 1)


async def test_an_event_is_waited_for_so_long() -> None:
    event = asyncio.Event()
    assert not await set_within(event, 0.01)
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await set_within(event, None)
    assert await set_within(event, 0)
