"""A coroutine is begun without a task and, where it waits, goes on in one as if nothing had happened."""

import asyncio
from typing import Any

import pytest

from app.stream.delivery import run_eagerly


async def at_once(done: list[str]) -> None:
    done.append("all")


async def never_begun() -> None:
    raise AssertionError


async def waits(gate: asyncio.Event, done: list[str]) -> None:
    done.append("first")
    await asyncio.sleep(0)
    try:
        await gate.wait()
        done.append("second")
    finally:
        done.append("end")


async def fails(later: bool) -> None:
    if later:
        await asyncio.sleep(0)
    raise ValueError("no")


def test_what_waits_for_nothing_needs_no_loop() -> None:
    done: list[str] = []
    assert run_eagerly(at_once(done), never_begun()) is None  # and -W error: the other one is closed
    assert done == ["all"]


def test_what_fails_at_once_fails_here() -> None:
    with pytest.raises(ValueError, match="no"):
        run_eagerly(fails(later=False), never_begun())


async def test_what_waits_goes_on_in_a_task() -> None:
    gate, done = asyncio.Event(), list[str]()
    left = run_eagerly(waits(gate, done), gate.wait())
    assert left
    assert done == ["first"]
    rest, other = map(asyncio.ensure_future, left)
    await asyncio.sleep(0.01)
    assert not rest.done()
    gate.set()
    await asyncio.gather(rest, other)
    assert done == ["first", "second", "end"]


async def test_it_can_be_cancelled_where_it_waits() -> None:
    gate, done = asyncio.Event(), list[str]()
    left = run_eagerly(waits(gate, done), gate.wait())
    assert left
    rest, other = map(asyncio.ensure_future, left)
    await asyncio.sleep(0.01)
    for task in (rest, other):
        task.cancel()
    assert [type(end) for end in await asyncio.gather(rest, other, return_exceptions=True)] == [
        asyncio.CancelledError,
        asyncio.CancelledError,
    ]
    assert done == ["first", "end"]


async def test_what_fails_later_fails_in_the_task() -> None:
    other: Any = asyncio.sleep(0)
    left = run_eagerly(fails(later=True), other)
    assert left
    with pytest.raises(ValueError, match="no"):
        await left[0]
    await left[1]
