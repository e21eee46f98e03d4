"""Mass outage: whose devices are held back, by whom, for how long, and who is notified of it."""

from collections import Counter
from collections.abc import Sequence

import pytest

from app.core.presence.device_presence import DevicePresence, PresenceLimits
from app.core.presence.online_count import WEIGHT, OnlineCount
from app.core.sweeper.sweeper import SweeperConfig
from tests.unit.presence_world import World

CARE = SweeperConfig(mass_share=0.3, mass_hold=120.0)


def devices(user: str, count: int) -> list[str]:
    return [f"{user}:d{n}" for n in range(count)]


def fleet(users: int, each: int) -> list[str]:
    return [device for n in range(users) for device in devices(f"user{n}", each)]


def reported(world: World) -> Counter[tuple[str, str, str]]:
    """(user, rule, status) of all that was sent."""
    return Counter((one["user_id"], one["rule_id"], one["status"]) for one in world.reported)


ALICE = devices("alice", 40)


@pytest.mark.parametrize("invented", [20, 300, 2000])
def test_invented_devices_of_one_account_hold_back_nobody_else(invented: int) -> None:
    world = World(CARE)
    world.goes_on(30, ALICE)
    for device in devices("mallory", invented):
        world.reads(device)
    world.goes_on(15, ALICE)
    world.goes_on(10, ALICE[1:])
    assert reported(world) == {("alice", "$offline", "FIRING"): 1, ("mallory", "$mass-offline", "FIRING"): 1}
    assert not world.sweep.mass
    assert world.sweep.users_held == ["mallory"]
    world.begin()  # the next worker finds them online in the state table, and knows that mallory was notified
    world.goes_on(40, ALICE[1:20])
    expected = {("alice", "$offline", "FIRING"): 1, ("alice", "$mass-offline", "FIRING"): 1,
                ("mallory", "$mass-offline", "FIRING"): 1}  # fmt: skip
    assert reported(world) == expected  # twenty of alice's own are a trouble of alice's


def test_an_account_holds_back_nobody_of_users_with_few_devices() -> None:
    world = World(CARE)
    rest = fleet(8, 3)
    for turn in range(4):  # again and again
        for device in devices(f"mallory{turn % 2}", 500):
            world.reads(device)
        world.goes_on(15, rest)
    world.goes_on(15, rest[2:])
    assert reported(world)["user0", "$offline", "FIRING"] == 2
    assert not world.sweep.mass


@pytest.mark.parametrize("restarts", [False, True])
def test_what_is_held_back_is_sent_in_the_end_and_the_alert_about_it_resolves(restarts: bool) -> None:
    world = World(CARE)
    world.goes_on(30, ALICE)
    for device in devices("mallory", 30):
        world.reads(device)
    for _ in range(10):
        world.goes_on(9, ALICE)
        if restarts:
            world.begin()
            world.goes_on(20, ALICE)
    world.goes_on(60, ALICE)
    assert reported(world) == {
        ("mallory", "$mass-offline", "FIRING"): 1, ("mallory", "$mass-offline", "RESOLVED"): 1,
        ("mallory", "$offline", "FIRING"): 30,
    }  # fmt: skip
    assert world.sweep.users_held == []


@pytest.mark.parametrize(("users", "each"), [(1, 40), (2, 30), (3, 30), (4, 20), (12, 100), (40, 5), (100, 1)])
def test_an_outage_of_the_path_is_one_event_whoever_has_the_devices(users: int, each: int) -> None:
    world = World(CARE)
    everybody = fleet(users, each)
    world.goes_on(30, everybody)
    world.goes_on(40)
    assert reported(world) == {("platform", "$mass-offline", "FIRING"): 1}
    assert world.sweep.mass
    world.goes_on(40, everybody)
    assert reported(world) == {("platform", "$mass-offline", "FIRING"): 1, ("platform", "$mass-offline", "RESOLVED"): 1}


@pytest.mark.parametrize("first", [1, 2, 5])
def test_the_first_devices_of_an_outage_are_not_reported_on_their_own(first: int) -> None:
    world = World(CARE)
    world.goes_on(30, ALICE)
    world.goes_on(1, ALICE[first:])  # and so these devices are due one look before all others
    world.goes_on(40)
    assert reported(world) == {("platform", "$mass-offline", "FIRING"): 1}


def test_single_devices_of_many_are_reported_while_others_fall_silent() -> None:
    world = World(CARE)
    world.goes_on(30, ALICE)
    for silent in range(1, 6):
        world.goes_on(4, ALICE[silent:])
    world.goes_on(30, ALICE[5:])
    assert reported(world) == {("alice", "$offline", "FIRING"): 5}


def test_invented_devices_do_not_hide_an_outage_of_everybody_else() -> None:
    world = World(CARE)
    everybody, invented = fleet(30, 4), devices("mallory", 1000)
    world.goes_on(20, everybody + invented)
    world.goes_on(20, invented)
    assert reported(world) == {("platform", "$mass-offline", "FIRING"): 1}


def test_an_outage_that_outlasts_the_hold_is_reported_of_each_device() -> None:
    world = World(CARE)
    everybody = fleet(30, 2)
    world.goes_on(20, everybody)
    world.goes_on(100)
    assert reported(world) == {("platform", "$mass-offline", "FIRING"): 1}
    world.goes_on(60)
    assert sum(reported(world)[f"user{n}", "$offline", "FIRING"] for n in range(30)) == 60
    assert reported(world)["platform", "$mass-offline", "RESOLVED"] == 1
    assert not world.sweep.mass


def test_what_was_one_users_trouble_goes_into_that_of_all() -> None:
    world = World(CARE)
    everybody = fleet(5, 30)
    world.goes_on(20, everybody)
    world.goes_on(20, everybody[30:])
    assert reported(world) == {("user0", "$mass-offline", "FIRING"): 1}
    world.goes_on(20)
    assert reported(world)["platform", "$mass-offline", "FIRING"] == 1
    world.goes_on(40, everybody)
    assert reported(world) == {
        ("user0", "$mass-offline", "FIRING"): 1, ("user0", "$mass-offline", "RESOLVED"): 1,
        ("platform", "$mass-offline", "FIRING"): 1, ("platform", "$mass-offline", "RESOLVED"): 1,
    }  # fmt: skip


def test_a_user_alone_with_invented_devices_holds_back_nobody_who_comes_later() -> None:
    world = World(CARE)
    world.goes_on(20, devices("mallory", 50))
    world.goes_on(15)
    assert world.sweep.mass  # there is nobody else
    world.goes_on(20, ["alice:d0", "alice:d1"])
    world.goes_on(15, ["alice:d0"])
    assert reported(world)["alice", "$offline", "FIRING"] == 1


@pytest.mark.parametrize("counts", [[5], [20, 3, 1], [400, 19, 21]])
def test_the_roll_counts_each_user_for_so_many_at_most(counts: Sequence[int]) -> None:
    roll, presence = OnlineCount(), DevicePresence(("", ""), PresenceLimits(0.0), -1)
    assert presence.name not in [("user0", "")]
    for user, count in enumerate(counts):
        for _ in range(count + 3):
            roll.comes(f"user{user}")
        for _ in range(3):
            roll.goes(f"user{user}")
    assert (roll.total, roll.weight) == (sum(counts), sum(min(count, WEIGHT) for count in counts))
    assert [roll.of(f"user{user}") for user in range(len(counts))] == counts
    for user, count in enumerate(counts):
        for _ in range(count):
            roll.goes(f"user{user}")
    assert (roll.total, roll.weight, roll.users) == (0, 0, 0)
