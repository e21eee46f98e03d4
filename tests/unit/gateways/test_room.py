"""The room of what is not acknowledged: who waits for it, for his share of it, and that no turn is lost."""

import asyncio

from app.gateways.room import READ_BYTES, Room

ROOM = 4 * READ_BYTES


async def waiting(room: Room, user: bytes = b"") -> "asyncio.Task[None]":
    """Somebody who waits, already."""
    task = asyncio.create_task(room.wait(user))
    await asyncio.sleep(0)
    return task


async def ran(task: "asyncio.Task[None]") -> bool:
    """Whether it goes on."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task.done()


async def test_who_comes_while_it_is_full_goes_on_once_half_of_it_is_free() -> None:
    room = Room(ROOM)
    room.take(b"a", ROOM)
    task = await waiting(room)
    room.give(b"a", READ_BYTES)
    room.wake()
    assert not await ran(task)
    room.give(b"a", READ_BYTES)
    room.wake()
    assert await ran(task)
    assert await ran(await waiting(room))


async def test_the_turn_of_who_waits_no_more_is_the_next_ones() -> None:
    """Else nobody would go on: nothing is in flight whose end would wake anybody again."""
    room = Room(READ_BYTES)
    room.take(b"a", READ_BYTES)
    gone, next_one = await waiting(room), await waiting(room)
    gone.cancel()
    await asyncio.wait({gone})
    room.give(b"a", READ_BYTES)
    room.wake()
    assert await ran(next_one)


async def test_a_user_over_his_share_waits_while_others_go_on() -> None:
    room = Room(ROOM)
    room.take(b"greedy", ROOM * 3 // 4)
    greedy = await waiting(room, b"greedy")
    assert not await ran(greedy)
    assert await ran(await waiting(room, b"other"))
    assert await ran(await waiting(room))
    room.give(b"greedy", ROOM // 8)
    room.wake()
    assert not await ran(greedy)
    room.give(b"greedy", ROOM // 2)
    room.wake()
    assert await ran(greedy)


async def test_at_the_end_all_go_on() -> None:
    room = Room(ROOM)
    room.take(b"a", ROOM)
    tasks = [await waiting(room, b"a"), await waiting(room)]
    late = Room(ROOM)
    late.take(b"a", ROOM * 3 // 4)
    tasks.append(await waiting(late, b"a"))
    room.close()
    late.close()
    for task in tasks:
        await ran(task)
        assert await ran(task)
