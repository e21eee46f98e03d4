"""Turns of an event loop: each account has its part of every one, whatever another has on hand."""

import asyncio
from collections import Counter
from collections.abc import Callable

from app.gateways.quic.turns import BYTES, FRAME, TURN, Turns

SMALL = 4  # bytes of a frame


class Work:
    """A connection with so many frames on hand."""

    def __init__(self, turns: Turns, account: str, frames: int, size: int = SMALL) -> None:
        self.turns, self.account, self.frames, self.size = turns, account, frames, size
        self.taken: list[int] = []  # in which turn each was

    def go(self, turn: Callable[[], int]) -> None:
        """Take what may be taken."""

        def on() -> None:
            while self.frames:
                if not self.turns.has(self.account):
                    self.turns.wait(self.account, on)
                    return
                self.frames -= 1
                self.turns.use(self.account, self.size)
                self.taken.append(turn())

        on()


async def run(*works: Work) -> int:
    """Work all of `works` off; returns the turns that took."""
    number = 0
    for work in works:
        work.go(lambda: number)
    while any(work.frames for work in works):
        number += 1
        await asyncio.sleep(0)
        assert number < 10_000
    return number


async def test_who_has_thousands_of_frames_takes_a_few_in_each_turn_and_all_in_the_end() -> None:
    work = Work(Turns(), "a", 2000)
    await run(work)
    each = Counter(work.taken)
    assert len(work.taken) == 2000
    assert max(each.values()) <= TURN // FRAME + 1
    assert min(list(each.values())[:-1]) >= TURN // FRAME - 1, "a turn is used"


async def test_connections_of_one_account_share_its_turns_and_another_account_has_its_own() -> None:
    turns = Turns()
    crowd, honest = [Work(turns, "a", 200) for _ in range(10)], Work(turns, "b", 3)
    await run(*crowd, honest)
    assert set(honest.taken) == {0}
    each = Counter(turn for work in crowd for turn in work.taken)
    assert max(each.values()) <= TURN // FRAME + 1
    assert [len(work.taken) for work in crowd] == [200] * 10


async def test_a_frame_that_is_more_than_a_turn_is_paid_by_those_to_come() -> None:
    work = Work(Turns(), "a", 3, size=10 * TURN * BYTES)
    assert await run(work) >= 20
    first, second, third = work.taken
    assert second - first >= 10
    assert third - second >= 10


async def test_who_is_gone_is_not_called() -> None:
    turns, called = Turns(), list[int]()

    def go_on() -> None:
        called.append(1)

    turns.use("a", TURN * BYTES)
    turns.wait("a", go_on)
    turns.forget("a", go_on)
    turns.forget("nobody", go_on)
    for _ in range(5):
        await asyncio.sleep(0)
    assert called == []
    assert turns.has("a")
