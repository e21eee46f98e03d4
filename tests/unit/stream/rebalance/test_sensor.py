"""What is reported of rebalances: what they changed, and how long nothing was taken."""

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from app.stream.rebalance import sensor
from app.stream.rebalance.sensor import RebalanceSensor


class ReportedRebalances:
    """The reports of rebalances, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def rebalance_begins(self, generation: int, partitions: Collection[int]) -> None:
        self.lines.append(("begins", generation, set(partitions)))

    def rebalance_ended(
        self, generation: int, before: Collection[int], now: Collection[int], joined: float, seconds: float, rounds: int
    ) -> None:
        self.lines.append(("ended", generation, set(before), set(now), joined, seconds, rounds))

    def first_batch(self, generation: int, partition: int, seconds: float) -> None:
        self.lines.append(("first", generation, partition, seconds))


class Group:
    """A worker's app as the sensor sees it, and its clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reported, self.seconds = ReportedRebalances(), 100.0
        self.sensor = RebalanceSensor("readings", self.reported)
        self.consumer_generation_id = 0
        self.consumer = SimpleNamespace(assignment=lambda: self.assigned)
        self.assigned: set[TP] = set()
        monkeypatch.setattr(sensor, "time", SimpleNamespace(monotonic=lambda: self.seconds))

    def begin(self, after: float) -> dict[str, float]:
        self.seconds += after
        return self.sensor.on_rebalance_start(self)

    def join(self, state: dict[str, float], after: float, partitions: set[int]) -> None:
        self.seconds += after
        self.consumer_generation_id += 1
        self.assigned = {TP(topic, number) for number in partitions for topic in ("readings", "changelog")}
        self.sensor.on_rebalance_return(self, state)

    def end(self, state: dict[str, float], after: float) -> None:
        self.seconds += after
        self.sensor.on_rebalance_end(self, state)

    def batch(self, topic: str, partition: int, after: float) -> None:
        self.seconds += after
        message = SimpleNamespace(generation_id=self.consumer_generation_id)
        self.sensor.on_message_in(TP(topic, partition), 5, message)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    return Group(monkeypatch)


def test_each_part_has_its_seconds(group: Group) -> None:
    state = group.begin(0)
    group.join(state, 2, {0, 1})
    group.end(state, 1)
    group.batch("changelog", 0, 1)
    group.batch("readings", 1, 1)
    group.batch("readings", 0, 1)
    state = group.begin(60)
    group.join(state, 1, {1, 2})
    group.end(state, 1)
    assert group.reported.lines == [
        ("begins", 0, set()),
        ("ended", 1, set(), {0, 1}, 2.0, 3.0, 1),
        ("first", 1, 1, 5.0),
        ("begins", 1, {0, 1}),
        ("ended", 2, {0, 1}, {1, 2}, 1.0, 2.0, 1),
    ]


def test_one_that_comes_in_the_middle_counts_from_the_first(group: Group) -> None:
    first = group.begin(0)
    group.join(first, 1, {0, 1})
    second = group.begin(1)
    group.join(second, 1, {1})
    group.end(second, 1)
    group.batch("readings", 1, 1)
    assert group.reported.lines == [
        ("begins", 0, set()),
        ("begins", 1, set()),
        ("ended", 2, set(), {1}, 3.0, 4.0, 2),
        ("first", 2, 1, 5.0),
    ]


def test_one_that_begins_before_the_first_batch_of_the_last_tells_of_none(group: Group) -> None:
    for _ in range(2):
        state = group.begin(1)
        group.join(state, 1, {0})
        group.end(state, 1)
    group.batch("readings", 0, 1)
    assert [line[:2] for line in group.reported.lines if line[0] == "first"] == [("first", 2)]
