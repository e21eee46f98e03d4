"""The window of a stream: bounded in number and in bytes, first in, first acknowledged."""

import asyncio

from app.gateways.grpc.ack_window import AckWindow
from app.gateways.grpc.taken_batch import TakenBatch


def taken(size: int = 10) -> TakenBatch:
    return TakenBatch(1, range(1), {}, asyncio.get_running_loop().create_future(), size, 0.0)


async def has_room(window: AckWindow) -> bool:
    waiting = asyncio.ensure_future(window.room())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if not waiting.done():
        waiting.cancel()
        return False
    return True


async def test_it_has_room_for_so_many_and_again_once_the_first_is_acknowledged() -> None:
    window = AckWindow(2)
    first, second = taken(), taken()
    for batch in (first, second):
        assert await has_room(window)
        window.add(batch)
    assert not await has_room(window)
    waiting = asyncio.create_task(window.room())
    assert await window.first() is first
    window.acknowledged()
    await asyncio.wait_for(waiting, 1)
    assert await window.first() is second
    assert len(window) == 1


async def test_it_has_room_for_so_many_bytes_and_for_one_of_any_size() -> None:
    window = AckWindow(100, most_bytes=50)
    window.add(taken(49))
    assert await has_room(window)
    window.add(taken(1000))
    assert not await has_room(window)
    window.acknowledged()
    assert not await has_room(window)
    window.acknowledged()
    assert await has_room(window)


async def test_who_waits_for_the_first_gets_it_and_none_once_it_is_closed_and_empty() -> None:
    window = AckWindow(2)
    waiting = asyncio.create_task(window.first())
    await asyncio.sleep(0)
    batch = taken()
    window.add(batch)
    assert await asyncio.wait_for(waiting, 1) is batch
    window.close()
    assert await window.first() is batch, "what was read is acknowledged"
    window.acknowledged()
    assert await window.first() is None
    late = AckWindow(1)
    waiting = asyncio.create_task(late.first())
    await asyncio.sleep(0)
    late.close()
    assert await asyncio.wait_for(waiting, 1) is None
