"""Offline and back: once each, whatever crashes; never while a device's records are in the log; no storms."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.model.inactivity_claim import claim_of, to_record
from app.core.presence import packed
from app.core.presence.device_classes import DeviceClass, DeviceClasses
from app.core.presence.device_presence import DevicePresence, PresenceLimits, encode, restore
from app.core.presence.timing_wheel import TimingWheel
from app.core.sweeper.sweeper import RETRY, SweeperConfig
from app.errors import PermanentError
from tests.unit.presence_world import AFTER, START, Crash, World
from tests.unit.readings import rule
from tests.unit.records import Message

GRACE = 15.0


def test_a_device_is_offline_after_its_time_and_online_with_its_next_record() -> None:
    world = World()
    world.goes_on(30, ["d", "e"])
    assert world.reported == []
    world.goes_on(4, ["e"])
    assert world.reported == []
    world.goes_on(3, ["e"])
    (offline,) = world.reported
    assert (offline["device_id"], offline["status"], offline["rule_id"]) == ("d", "FIRING", "$offline")
    assert (offline["value"], offline["threshold"]) == ("offline", AFTER)
    assert offline["first_seen"] == "2026-11-21T03:00:30Z"
    assert AFTER <= offline["age_seconds"] <= AFTER + 2
    assert world.rows["u/d"][3] == "offline"
    assert world.active == {("u", "d", "$offline")}
    world.goes_on(60, ["e"])
    assert len(world.reported) == 1
    world.goes_on(60, ["d", "e"])
    assert [(one["device_id"], one["status"]) for one in world.reported] == [("d", "FIRING"), ("d", "RESOLVED")]
    assert world.reported[0]["alert_id"] == world.reported[1]["alert_id"]
    assert world.rows["u/d"][3] == "online"
    assert world.active == set()
    world.goes_on(10, ["e"])
    assert world.reported[2]["alert_id"] != offline["alert_id"]


def test_last_seen_is_noted_now_and_then() -> None:
    world = World()
    seen = []
    for _ in range(60):
        world.goes_on(1, ["d"])
        seen.append(world.rows["u/d"][4].timestamp() - START)
    assert seen == sorted(seen)
    assert len(set(seen)) == 3  # every 20 s


def test_a_new_worker_waits_and_then_tells_of_those_who_left_meanwhile() -> None:
    world = World()
    world.goes_on(20, ["d", "e"])
    world.passes(60)
    world.begin()
    world.goes_on(GRACE - 2, ["e"])
    assert world.reported == []
    world.goes_on(5, ["e"])
    assert world.statuses("d") == ["FIRING"]
    assert world.statuses("e") == []


def test_nobody_is_claimed_while_the_partition_is_behind() -> None:
    world = World()
    world.goes_on(30, ["d"])
    for _ in range(60):  # the database is away, say: nothing is processed, and devices send on
        world.passes(1)
        world.reads("d")
        assert world.look() == []
    world.work()
    world.goes_on(GRACE + 10, ["d"])
    assert world.claims == []


@pytest.mark.parametrize("after", [1.5, 3.0, 5.0])
@pytest.mark.parametrize("every", [1, 3])
def test_a_database_that_hangs_is_no_mass_silence(after: float, every: int) -> None:
    world = World(SweeperConfig(mass_share=0.3), classes=(DeviceClass("*", after + every),))
    devices = [f"d{n}" for n in range(100)]
    talking = [devices[n::every] for n in range(every)]
    for second in range(45):
        world.goes_on(1, talking[second % every])
    for second in range(20):
        world.passes(1)
        for device in talking[second % every]:
            world.reads(device)
        assert all(claim.what == "offline" for claim in world.look())
    for second in range(30):
        world.goes_on(1, talking[second % every])
    assert world.reported == []


def test_nobody_is_claimed_after_the_process_stood_still_or_the_clock_was_set() -> None:
    world = World()
    world.goes_on(30, ["d"])
    world.passes(60)  # Kafka has brought nothing for a minute, and the look comes first
    assert world.look(end=len(world.log)) == []
    world.goes_on(5, ["d"])
    assert world.claims == []


def test_a_claim_that_is_lost_is_made_again() -> None:
    world = World()
    world.goes_on(30, ["d"])
    world.passes(3)
    world.look()
    world.passes(3)
    assert len(world.look(loses=True)) == 1
    world.goes_on(RETRY - 2)
    assert world.reported == []
    world.goes_on(3)
    assert world.statuses("d") == ["FIRING"]


def test_a_record_before_the_claim_refutes_it() -> None:
    world = World()
    world.goes_on(30, ["d"])
    world.passes(3)
    world.look()
    world.passes(2.5)
    world.look(loses=True)
    (claim,) = world.claims
    world.reads("d")
    world.append(*to_record(claim), [("kind", b"silence")])
    world.work()
    assert world.reported == []
    world.goes_on(4)
    assert world.reported == []
    world.goes_on(3)
    assert world.statuses("d") == ["FIRING"]


def test_a_node_inhibits_its_sensors() -> None:
    world = World()
    world.goes_on(30, ["n/a", "n/b"])
    world.says("n", "online")
    world.goes_on(2, ["n/b"])
    world.goes_on(20)
    assert world.statuses("n/") == ["FIRING"]
    assert world.statuses("n/a") == world.statuses("n/b") == []
    world.goes_on(20, ["n/b"])  # the node is back, and one of its sensors is not
    assert world.statuses("n/") == ["FIRING", "RESOLVED"]
    assert world.statuses("n/a") == ["FIRING"]
    assert world.statuses("n/b") == []
    assert {key: row[3] for key, row in world.rows.items()} == {"n": "online", "n/a": "offline", "n/b": "online"}


def test_a_sensor_of_a_node_that_talks() -> None:
    world = World()
    world.goes_on(30, ["n/a", "n/b"])
    world.goes_on(7, ["n/b"])
    assert world.statuses("n/a") == ["FIRING"]
    assert world.statuses("n/") == []


def test_a_last_will() -> None:
    world = World()
    world.says("n", "online")
    world.goes_on(20, ["n/a"])
    world.says("n", '{"status": "offline", "by": "will"}')
    world.work()
    assert world.statuses("n/") == ["FIRING"]
    assert world.rows["n"][3] == "offline"
    world.goes_on(20)
    assert world.reported[1:] == []
    world.says("n", "rebooting")
    world.work()
    assert world.statuses("n/") == ["FIRING", "RESOLVED"]
    assert world.rows["n"][3] == "rebooting"


@pytest.mark.parametrize("device", ["d", "n/a"])
def test_what_follows_history_in_one_batch_is_news(device: str) -> None:
    world = World()
    world.reads(device)
    world.goes_on(20)
    world.begin()
    world.position = world.committed = 0
    world.passes(1)
    world.reads(device)
    world.work()
    assert world.statuses(device) == (["FIRING", "RESOLVED"] if device == "d" else [])
    if device == "n/a":
        assert world.statuses("n/") == ["FIRING", "RESOLVED"]


def test_a_node_that_said_something_just_before_a_restart_is_shown_offline() -> None:
    world = World()
    for _ in range(2):  # the second is within the time in which a sign of life is not noted
        world.says("n", "online")
        world.work()
        world.passes(1)
    world.begin()
    world.goes_on(30)
    assert world.statuses("n/") == ["FIRING"]
    assert world.rows["n"][3] == "offline"


@pytest.mark.parametrize("crash", ["told", "stored"])
def test_a_status_that_comes_again_does_not_undo_what_came_later(crash: Crash) -> None:
    world = World()
    world.says("n", "online")
    world.goes_on(20)
    assert world.rows["n"][3] == "offline"
    world.committed = 0
    world.begin()
    world.work(most=1, crash=crash)  # the status alone, and then its claim is not processed for a while
    assert world.rows["n"][3] == "offline"
    world.work()
    world.says("n", "offline")
    world.says("n", "online")
    world.work()
    assert world.rows["n"][3] == "online"
    assert world.statuses("n/") == ["FIRING", "RESOLVED"]


def test_who_is_offline_leaves_memory_and_is_known_again() -> None:
    world = World()
    world.goes_on(20, ["d", "e", "n/a"])
    registry = world.processor.partitions.partition(world.epoch, 0).registry
    assert set(registry.presences) == {"u/d", "u/e", "iot/n/a", "n/"}
    world.goes_on(8, ["e", "n/b"])
    assert world.statuses("d") == world.statuses("n/a") == ["FIRING"]
    assert set(registry.presences) == {"u/e", "iot/n/b", "n/"}
    world.goes_on(8, ["e", "d", "n/a", "n/b"])
    assert world.statuses("d") == world.statuses("n/a") == ["FIRING", "RESOLVED"]
    assert {sensor.name for sensor in registry.of(("n", ""), sensor=False).sensors or ()} == {
        ("iot/n", name) for name in ("a", "b") if not isinstance(registry.presences[f"iot/n/{name}"], bytes)
    }
    world.begin()
    world.goes_on(30, ["e"])
    registry = world.processor.partitions.partition(world.epoch, 0).registry
    assert registry.online == 3  # e, and the sensors of the node, which fell silent as a whole
    assert world.statuses("d")[-1] == world.statuses("n/")[-1] == "FIRING"


def test_who_is_offline_stays_in_memory_until_that_is_stored() -> None:
    world = World(unclosed_max=4)
    world.goes_on(20, ["d"])
    registry = world.processor.partitions.partition(world.epoch, 0).registry
    while not world.statuses("d"):
        world.goes_on(1)
    for _ in range(4):
        assert "u/d" in registry.presences
        world.reads("e")
        world.work()
    assert "u/d" not in registry.presences


def test_a_will_of_a_node_nobody_knew() -> None:
    world = World()
    world.says("n", "offline")
    world.goes_on(60)
    assert world.reported == []
    assert world.rows["n"][3] == "offline"


def test_mass_silence_is_one_alert_until_they_are_back() -> None:
    world = World(SweeperConfig(mass_share=0.3))
    devices = [f"d{n}" for n in range(100)]
    world.goes_on(30, devices)
    world.goes_on(40, devices[:60])
    (alert,) = world.reported
    assert (alert["user_id"], alert["device_id"], alert["rule_id"]) == ("platform", "partition-0", "$mass-offline")
    assert alert["message"].startswith("40 of 100 devices")
    world.begin()  # the next worker finds it in the state table
    world.goes_on(40, devices[:60])
    assert len(world.reported) == 1
    world.goes_on(40, devices[:95])
    assert [one["status"] for one in world.reported if one["user_id"] == "platform"] == ["FIRING", "RESOLVED"]
    assert sorted(one["device_id"] for one in world.reported if one["user_id"] != "platform") == devices[95:]
    assert world.active == {("u", device, "$offline") for device in devices[95:]}


def test_many_but_not_too_many_are_reported_each() -> None:
    world = World(SweeperConfig(mass_share=0.3))
    devices = [f"d{n}" for n in range(100)]
    world.goes_on(30, devices)
    world.goes_on(9, devices[:80])
    assert sorted(one["device_id"] for one in world.reported) == sorted(devices[80:])


def test_classes() -> None:
    classes = (
        DeviceClass("u/slow-*", 30.0),
        DeviceClass("u/quiet-*", 5.0, alert=False),
        DeviceClass("*/ignored", 0.0),
    )
    world = World(classes=classes)
    world.goes_on(30, ["slow-1", "quiet-1", "ignored", "d"])
    world.goes_on(20)
    assert [one["device_id"] for one in world.reported] == ["d"]
    assert {key: row[3] for key, row in world.rows.items()} == {
        "u/slow-1": "online", "u/quiet-1": "offline", "u/d": "offline",
    }  # fmt: skip
    world.goes_on(15, ["quiet-1"])
    assert world.statuses("slow-1") == ["FIRING"]
    assert world.statuses("quiet-1") == []
    assert DeviceClasses(classes, PresenceLimits(5.0))(("u", "slow-2")) == PresenceLimits(30.0)


def test_maintenance_windows() -> None:
    window: dict[str, object] = {"from": "2026-11-21T03:00:00Z", "until": "2026-11-21T03:02:00Z", "devices": ["d"]}
    world = World(maintenance=(window,), rules=(rule(no_data_seconds=10),))
    world.reads("d", temperature=90)
    world.says("n", "online")
    world.goes_on(30, ["d", "e"])
    world.says("n", "offline")
    world.goes_on(85, ["e"])
    assert world.rows["n"][3] == "offline"
    assert [one for one in world.reported if one["status"] != "FIRING"] == []
    assert world.statuses("n/") == []
    assert [one["rule_id"] for one in world.reported] == []
    world.goes_on(40, ["e"])
    assert [one["rule_id"] for one in world.reported] == ["$offline"]


def test_history_that_is_replayed_moves_nothing() -> None:
    world = World()
    world.goes_on(30, ["d", "e"])
    world.goes_on(20, ["e"])
    rows, reported = dict(world.rows), len(world.reported)
    world.committed = 0
    world.begin()
    world.work()
    assert (world.rows, len(world.reported), world.repeats) == (rows, reported, 0)


def test_an_alert_without_data_goes_stale_over_a_new_worker() -> None:
    world = World(rules=(rule(no_data_seconds=30),))
    world.goes_on(20, ["d"])
    world.reads("d", temperature=90)
    world.goes_on(2)
    world.begin()
    for _ in range(45):
        world.goes_on(1)
        if world.now % 2:
            world.reads("d")  # says nothing of the rule
    assert world.statuses("d") == ["FIRING", "STALE"]
    assert world.reported[1]["age_seconds"] >= 30
    world.goes_on(60, ["d"])
    world.reads("d", temperature=20)
    world.work()
    assert world.statuses("d") == ["FIRING", "STALE", "RESOLVED"]


DEVICES = ["d", "e", "n/a", "n/b"]
actions = st.one_of(
    st.tuples(st.just("reads"), st.sampled_from(DEVICES)),
    st.tuples(st.just("reads"), st.sampled_from(DEVICES)),
    st.tuples(st.just("says"), st.sampled_from(["online", "offline"])),
    st.tuples(st.just("passes"), st.sampled_from([0.001, 0.5, 1.0, 3.0])),
    st.tuples(st.just("looks"), st.booleans()),
    st.tuples(st.just("waits"), st.tuples(st.booleans(), st.sampled_from([None, *DEVICES]))),
    st.tuples(st.just("waits"), st.tuples(st.just(False), st.sampled_from([None, *DEVICES]))),
    st.tuples(st.just("works"), st.tuples(st.sampled_from([1, 2, 100]), st.just(""))),
    st.tuples(st.just("works"), st.tuples(st.sampled_from([1, 2, 100]), st.sampled_from(["told", "stored"]))),
    st.tuples(st.just("begins"), st.none()),
    st.tuples(st.just("goes"), st.tuples(st.sampled_from([3, 8, 20]), st.sets(st.sampled_from(DEVICES)))),
)


@given(log=st.lists(actions, max_size=40), in_memory=st.sampled_from([1, 2, 100]), unclosed=st.integers(0, 3))
def test_any_order_of_readings_claims_crashes_and_replays(
    log: list[tuple[str, Any]], in_memory: int, unclosed: int
) -> None:
    world = World(SweeperConfig(grace=1.0, mass_share=1.0), in_memory=in_memory, unclosed_max=unclosed)
    other = World(SweeperConfig(grace=1.0, mass_share=1.0), in_memory=1000, unclosed_max=unclosed)
    for one in world, other:
        _happens(one, log)
    assert (world.reported, world.claims) == (other.reported, other.claims)  # whoever is in memory
    known = {device for device in DEVICES if f"u/{device}" in world.rows or device in world.rows}
    for device in [*DEVICES, "n/"]:
        _alternates(world, device, open_now=device in known - {"d", "n/a"})
    _only_when_silent(world)
    assert world.active == {(*_name(device), "$offline") for device in known - {"d", "n/a"}}
    assert {device: world.rows[_key(device)][3] for device in known} == {
        device: "online" if device in ("d", "n/a") else "offline" for device in known
    }


def _happens(world: World, log: list[tuple[str, Any]]) -> None:
    world.goes_on(4, DEVICES)
    for action, what in log:
        match action:
            case "waits":  # until somebody is claimed, while a record of somebody is not processed yet
                for second in range(8):
                    world.work()
                    world.passes(1)
                    if what[1] and second > 3:
                        world.reads(what[1])
                    if world.look(loses=what[0]):
                        break
            case "reads":
                world.reads(what)
            case "says":
                world.says("n", what)
            case "passes":
                world.passes(what)
            case "looks":
                world.look(loses=what)
            case "works":
                world.work(*what)
            case "begins":
                world.begin()
            case "goes":
                world.goes_on(what[0], sorted(what[1]))
    world.goes_on(60, ["d", "n/a"])  # long enough for all to be known


def _name(device: str) -> tuple[str, str]:
    node, _, name = device.rpartition("/")
    return node or "u", name


def _key(device: str) -> str:
    return "/".join(_name(device))


def _alternates(world: World, device: str, *, open_now: bool) -> None:
    """FIRING and RESOLVED by turns, each pair with an id of its own."""
    found = [one for one in world.reported if (one["user_id"], one["device_id"]) == _name(device)]
    assert [one["status"] for one in found] == (["FIRING", "RESOLVED"] * len(found))[: len(found)], found
    ids = [one["alert_id"] for one in found]
    assert ids[1::2] == ids[::2][: len(ids) // 2]
    assert len(set(ids)) == (len(ids) + 1) // 2
    assert len(found) % 2 == open_now, (device, found)


def _only_when_silent(world: World) -> None:
    """A device that was reported offline had sent nothing for so long, up to the place of a claim in the log."""
    for event in world.reported:
        if event["status"] == "FIRING":
            name = (event["user_id"], event["device_id"])
            place = _place(world, name, datetime.fromisoformat(event["event_time"]).timestamp())
            if place is not None:
                latest = max(one.timestamp for one in world.log[: place.offset] if _life(one, name))
                assert place.timestamp - latest >= AFTER * 1000, event


def _place(world: World, name: tuple[str, str], time: float) -> Message | None:
    """The claim that made it offline; None if it may have been its will."""
    then = [record for record in world.log if record.timestamp == round(time * 1000)]
    if not name[1] and any(record.value == b"offline" for record in then):
        return None
    for record in then:
        claim = claim_of(record) if record.headers[0][0] == "kind" else None
        if claim is not None and (claim.user_id, claim.device_id) == name:
            return record
    raise AssertionError(f"{name} was told to be offline at {time} for nothing")


def _life(record: Message, name: tuple[str, str]) -> bool:
    """Whether a record is a sign of life of that device or node."""
    topic = record.headers[0][1].decode()
    if not name[1]:
        return topic.startswith(f"iot/{name[0]}/")
    return topic in (f"users/{name[0]}/devices/{name[1]}/telemetry", f"iot/{name[0]}/{name[1]}/telemetry")


def test_a_wheel_gives_each_item_once_in_its_time() -> None:
    wheel: TimingWheel[str] = TimingWheel(0.25)
    wheel.arm("late", 100.0)
    wheel.arm("soon", 1.0)
    assert list(wheel.due(0.9)) == []
    assert list(wheel.due(1.25)) == ["soon"]
    wheel.arm("past", 0.5)
    assert list(wheel.due(1.3)) == []
    assert list(wheel.due(1.0)) == []  # a clock that went back
    assert list(wheel.due(1.5)) == ["past"]
    assert len(wheel) == 1
    assert list(wheel.due(1e9)) == ["late"]
    assert len(wheel) == 0


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 5)), max_size=50))
def test_a_wheel_is_never_early_and_at_most_a_tick_late(timers: list[tuple[float, float]]) -> None:
    wheel: TimingWheel[float] = TimingWheel(0.25)
    now, waiting = 0.0, set[float]()
    for wait, step in timers:
        wheel.arm(now + wait, now + wait)
        waiting.add(now + wait)
        now += step
        found = set(wheel.due(now))
        assert all(at <= now for at in found)
        waiting -= found
        assert all(at > now - 0.5 for at in waiting)


@given(data=st.data())
def test_a_presence_at_rest_is_bytes_and_nothing_is_forgotten(data: st.DataObject) -> None:
    numbers, times = st.integers(0, 2**50), st.floats(1, 2e9)
    presence = DevicePresence(("u", "d"), PresenceLimits(5.0), data.draw(numbers))
    presence.online, presence.seen = True, data.draw(st.integers(-1, 2**50))
    presence.since_ms, presence.last_ms, presence.note_ms = data.draw(numbers), data.draw(numbers), data.draw(numbers)
    presence.noted_ms, presence.claimed = data.draw(st.sampled_from([presence.last_ms, 7])), data.draw(st.booleans())
    presence.seen_at, presence.timer = data.draw(times), data.draw(st.one_of(st.just(0.0), times))
    if not packed.can_be(presence):
        assert presence.claimed or not presence.timer or (not presence.note_ms and presence.noted_ms == 7)
        return
    data_of_it = packed.dense(presence)
    again = DevicePresence(("u", "d"), PresenceLimits(5.0), -1)
    assert not packed.restore(again, data_of_it)
    assert packed.timer(data_of_it) == presence.timer
    again.noted_ms = presence.noted_ms  # is not asked for any more
    for slot in set(DevicePresence.__slots__) - {"limits"}:
        assert getattr(again, slot) == getattr(presence, slot), slot


def test_what_is_stored_of_a_presence() -> None:
    presence = DevicePresence(("u", "d"), PresenceLimits(5.0), -1)
    presence.online_now(7, 1_795_230_000_123)
    data = encode(presence)
    assert len(data) < 40
    again = DevicePresence(("u", "d"), PresenceLimits(5.0), -1)
    assert restore(again, data) is False
    assert (again.online, again.since_ms, again.last_ms, again.applied) == (
        True,
        presence.since_ms,
        presence.last_ms,
        7,
    )
    with pytest.raises(PermanentError, match="not a device's presence"):
        restore(again, b"nonsense")
