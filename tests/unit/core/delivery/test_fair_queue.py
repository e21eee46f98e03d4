"""Taking turns: each lane in its order, and nobody behind another's flood."""

from hypothesis import given
from hypothesis import strategies as st

from app.core.delivery.fair_queue import FairQueue


def drained(turns: FairQueue[int]) -> list[tuple[str, int]]:
    found = []
    while (taken := turns.take()) is not None:
        found.append(taken)
    return found


def test_a_flood_keeps_nobody_waiting() -> None:
    turns: FairQueue[int] = FairQueue()
    for number in range(1000):
        turns.put("flood", number)
    turns.put("calm", 0)
    turns.put("calm", 1)
    first = [turns.take() for _ in range(4)]
    assert first == [("flood", 0), ("calm", 0), ("flood", 1), ("calm", 1)]
    assert len(turns) == 998
    assert [number for _, number in drained(turns)] == list(range(2, 1000))
    assert turns.take() is None


def test_a_paused_lane_waits_and_keeps_its_order() -> None:
    turns: FairQueue[int] = FairQueue()
    turns.put("a", 1)
    turns.pause("a")
    turns.pause("a")
    turns.put("a", 2)
    turns.put("b", 1)
    assert drained(turns) == [("b", 1)]
    assert turns.idle
    turns.back("a", [-1, 0])
    assert turns.idle
    turns.resume("a")
    turns.resume("a")
    assert drained(turns) == [("a", -1), ("a", 0), ("a", 1), ("a", 2)]
    turns.pause("c")
    turns.resume("c")
    assert turns.idle


@given(st.lists(st.tuples(st.sampled_from(["put", "take", "back", "pause", "resume"]), st.sampled_from("abc"))))
def test_nothing_is_lost_or_changes_places(steps: list[tuple[str, str]]) -> None:
    """Against plain lists: what is put comes once, in its lane's order, and never from a paused lane."""
    turns: FairQueue[int] = FairQueue()
    lanes: dict[str, list[int]] = {lane: [] for lane in "abc"}
    paused: set[str] = set()
    taken: list[tuple[str, int]] = []
    for number, (step, lane) in enumerate(steps):
        if step == "put":
            turns.put(lane, number)
            lanes[lane].append(number)
        elif step == "take":
            found = turns.take()
            if found is None:
                assert not any(queue for name, queue in lanes.items() if name not in paused)
            else:
                assert found[0] not in paused
                assert lanes[found[0]].pop(0) == found[1]
                taken.append(found)
        elif step == "back" and taken:
            name, last = taken.pop()
            turns.back(name, [last])
            lanes[name].insert(0, last)
        elif step == "pause":
            turns.pause(lane)
            paused.add(lane)
        else:
            turns.resume(lane)
            paused.discard(lane)
        assert len(turns) == sum(map(len, lanes.values()))
        assert turns.idle == (not any(queue for name, queue in lanes.items() if name not in paused))


def test_a_whole_lane_is_taken_paused_or_not() -> None:
    queue = FairQueue[int]()
    for lane in ("a", "b", "c"):
        for item in range(3):
            queue.put(lane, item)
    queue.pause("a")
    assert (queue.take_all("a"), queue.take_all("b"), queue.take_all("none")) == ([0, 1, 2], [0, 1, 2], [])
    assert len(queue) == 3
    queue.resume("a")
    queue.put("a", 9)
    assert [queue.take() for _ in range(5)] == [("c", 0), ("a", 9), ("c", 1), ("c", 2), None]
