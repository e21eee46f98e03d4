"""Topics that differ in their partition counts: what an operator learns, and who is given partitions meanwhile."""

from types import SimpleNamespace
from typing import Any

import pytest
from faust.assignor.client_assignment import ClientMetadata

from app.kafka.topics import disagreement
from app.stream.rebalance.assignor import EqualCountsAssignor

COUNTS = {"in": 4, "letters": 2, "alerts": 4, "states": 2}


def test_topics_that_agree_need_nobody() -> None:
    assert disagreement({}) is None
    assert disagreement({"in": 3}) is None
    assert disagreement(dict.fromkeys(COUNTS, 3)) is None


def test_the_whole_cure_is_named() -> None:
    cure = disagreement(COUNTS)
    assert cure is not None
    for words in ("in has 4", "letters has 2", "--partitions 4 --topic letters", "--topic states", "_PARTITIONS=4"):
        assert words in cure
    assert "--topic in" not in cure
    assert "--topic alerts" not in cure


class Cluster:
    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = counts

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self.counts[topic])) if topic in self.counts else None


@pytest.mark.parametrize(
    ("counts", "hold", "given"),
    [
        ({"in": 2, "states": 2}, False, 4),
        ({"in": 2}, False, 2),  # the other one is missing: writes to it are held
        ({"in": 4, "states": 2}, False, 0),
        ({"in": 2, "states": 2}, True, 0),
    ],
)
def test_who_is_given_partitions(counts: dict[str, int], hold: bool, given: int) -> None:
    tables = SimpleNamespace(data={}, changelog_topics={"states"})
    sensors = SimpleNamespace(
        on_assignment_start=lambda _: None, on_assignment_completed=lambda *_: None, on_assignment_error=lambda *_: None
    )
    app: Any = SimpleNamespace(
        tables=tables, sensors=sensors, tracer=None, conf=SimpleNamespace(canonical_url="http://worker:1")
    )
    subject = EqualCountsAssignor(app)
    subject.hold = hold
    member = subject.metadata({"in", "states"})
    assert ClientMetadata.loads(member.user_data).url == "http://worker:1"
    (answer,) = subject.assign(Cluster(counts), {"member": member}).values()
    assert sum(len(partitions) for _, partitions in answer.assignment) == given
