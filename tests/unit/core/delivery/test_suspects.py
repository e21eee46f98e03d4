"""A message the broker cannot take is found by behaviour; a broker that is down, restarts or refuses all loses none."""

import random

import pytest

from app.core.delivery.suspects import STRIKES, Suspects


def pause(failures: int) -> float:
    return min(10.0, 0.1 * 2.0 ** min(failures, 10))


class World:
    """A broker as a function of the message; `run` sends what is due until nothing is left to do or time is up."""

    def __init__(self, suspects: Suspects[str]) -> None:
        self.suspects, self.now = suspects, 0.0
        self.out: list[str] = []
        self.reported: list[str] = []

    def trial(self, *, taken: bool, rest: int = 0, why: str = "connection lost") -> None:
        """A trial of the suspect that is due, after so many messages of others on the same connection."""
        for _ in range(rest):
            self.suspects.took()
        self.now += 20
        one = self.suspects.next(self.now)
        assert one
        self.suspects.begin(one)
        if taken:
            self.reported.append(self.suspects.taken().message)
            return
        if left_out := self.suspects.failed(why, self.now):
            self.out.append(left_out.message)
        if why == "connection lost":
            self.suspects.connected()


@pytest.fixture
def world() -> World:
    made = World(Suspects(pause))
    made.suspects.suspect("mallory", "m", "connection lost", 0.0)
    return made


def test_a_message_that_ends_each_connection_is_left_out(world: World) -> None:
    for strike in range(STRIKES):
        assert world.out == []
        world.trial(taken=False, rest=strike + 1)
    assert world.out == ["m"]
    assert len(world.suspects) == 0
    assert world.suspects.next(1e9) is None


def test_one_that_is_refused_while_others_are_taken_too(world: World) -> None:
    for strike in range(STRIKES):
        world.trial(taken=False, rest=strike + 1, why="QUOTA_EXCEEDED")
    assert world.out == ["m"]


def test_while_nothing_is_taken_nothing_is_left_out(world: World) -> None:
    for _ in range(1000):
        world.trial(taken=False)
    assert world.out == []
    assert (world.suspects.waits(world.now) or 0) <= 10, "and it is tried again, now and then"
    world.trial(taken=True)
    assert world.reported == ["m"]


def test_what_the_connection_before_took_proves_nothing(world: World) -> None:
    for _ in range(1000):
        world.suspects.took()
        world.suspects.connected()
        world.trial(taken=False)
    assert world.out == []


def test_a_limit_of_messages_a_connection_is_no_message(world: World) -> None:
    """A broker that ends each connection at its second message: the second trial follows one message alone."""
    for _ in range(1000):
        world.trial(taken=False, rest=1)
    assert world.out == []


def test_a_restarting_broker_loses_nothing() -> None:
    """The broker goes away at any moment, in a trial one time in fifty: 2,000 messages, each suspected once."""
    chance = random.Random(1)
    for number in range(2000):
        world = World(Suspects(pause))
        world.suspects.suspect("alice", str(number), "connection lost", 0.0)
        while not world.reported and not world.out:
            world.trial(taken=chance.random() > 0.02, rest=chance.randrange(5))
        assert world.reported, number


def test_lanes_are_apart() -> None:
    suspects: Suspects[str] = Suspects(pause)
    suspects.suspect("a", "1", "", 0.0)
    suspects.suspect("b", "2", "", 1.0)
    assert (len(suspects), "a" in suspects, "c" in suspects) == (2, True, False)
    assert suspects.next(0.0) is None
    first = suspects.next(5.0)
    assert first
    assert first.lane == "a"
    suspects.begin(first)
    assert suspects.trial is first
    assert suspects.taken() is first
    assert suspects.trial is None
    second = suspects.next(5.0)
    assert second
    assert second.message == "2"
