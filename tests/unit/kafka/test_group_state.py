"""Members of a group as a broker describes them: who they are, and what they have."""

from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from app.kafka.group_state import GroupMember, assigned_partitions, member_name

UUID = "0b5a3c1e-9f2d-4c55-8a77-1d2e3f405162"


def encoded(*topics: tuple[str, list[int]]) -> bytes:
    """An assignment as a group's leader makes it."""
    made: Any = ConsumerProtocolMemberAssignment(0, list(topics), b"user data")
    data: bytes = made.encode()
    return data


@pytest.mark.parametrize(
    ("member", "client", "name"),
    [
        (f"iot-worker-0-{UUID}", "faust-0.15.3", "iot-worker-0"),  # a static member: its group.instance.id
        (f"faust-0.15.3-{UUID}", "faust-0.15.3", "faust-0.15.3"),
        (f"a-{UUID}-{UUID}", "c", f"a-{UUID}"),
        ("of another broker", "c", "c"),
        (UUID, "c", "c"),
    ],
)
def test_a_member_is_called_as_its_broker_was_asked_to(member: str, client: str, name: str) -> None:
    assert member_name(member, client) == name


def test_partitions_are_those_of_the_topic() -> None:
    assigned = encoded(("other", [7]), ("in", [3, 0]))
    assert assigned_partitions(assigned, "in") == (0, 3)
    assert assigned_partitions(assigned, "none") == ()
    assert assigned_partitions(b"", "in") == (), "a member that waits for the others"


def test_a_member_for_a_person() -> None:
    assert str(GroupMember("w0", "10.0.0.7", (0, 3))) == "w0 at 10.0.0.7 with partitions 0, 3"
    assert str(GroupMember("w1", "10.0.0.8")) == "w1 at 10.0.0.8 with no partition"
