"""A block is the sequence of its records, the same ones whenever somebody asks."""

import pytest

from app.core.model.records import Kind
from app.gateways.blocks.place import Place
from app.gateways.blocks.record_block import (
    JoinedRecords,
    RecordBlock,
    joined,
    merged,
    payload_of,
    topic_and_gateway,
    topics_of,
)
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import KIND, USERS, Arrival, place_of
from app.ports import Account
from tests.unit.gateways.intake_world import record

ARRIVAL = Arrival(b"tcp", 1_795_230_000_000)


def block(devices: list[str], values: list[bytes], arrival: Arrival = ARRIVAL) -> RecordBlock:
    """Of devices of alice's."""
    places = [place_of(Account("alice"), USERS, "alice", device) for device in devices]
    good = [place for place in places if isinstance(place, Place)]
    assert len(good) == len(values)
    return RecordBlock(good, values, [KIND, *arrival.last], arrival.ingest_ms, sum(map(len, values)))


def test_its_records_are_those_that_are_made_one_by_one() -> None:
    made = block(["d1", "d2"], [b"{}", b"{ }"])
    assert made.untouched
    assert len(made) == 2
    expected = [record("alice", "d1", b"{}", ARRIVAL), record("alice", "d2", b"{ }", ARRIVAL)]
    assert list(made) == expected == made[:]
    assert made[1] is list(made)[1]
    assert made[0].kind is Kind.TELEMETRY
    assert made[0].headers is not made[1].headers, "one of them may get a header of its own"
    assert not made.untouched


@pytest.mark.parametrize("as_list", [False, True])
def test_what_is_asked_of_records_is_the_same_of_a_block_and_a_list(as_list: bool) -> None:
    made = block(["d1", "d2"], [b"{}", b"{ }"])
    records = list(made) if as_list else made
    assert payload_of(records) == 5
    assert payload_of(records[:1]) == 2
    assert topic_and_gateway(records) == (b"users/alice/devices/d1/telemetry", b"tcp")
    assert topics_of(records) == [b"users/alice/devices/d1/telemetry", b"users/alice/devices/d2/telemetry"]


def test_lists_and_blocks_are_joined_in_order() -> None:
    first, last = block(["d1"], [b"1"]), block(["d2"], [b"4"])
    lists = [[record("alice", "d1", b"2")], [record("alice", "d1", b"3")]]
    found = joined([first, *lists, last])
    assert isinstance(found, JoinedRecords)
    assert [len(part) for part in found.parts] == [1, 2, 1]
    assert (len(found), [one.value for one in found]) == (4, [b"1", b"2", b"3", b"4"])
    assert found[1] is lists[0][0]
    assert joined(lists) == [*lists[0], *lists[1]]
    assert joined([]) == []


def test_blocks_of_one_request_are_one_block() -> None:
    found = merged([block(["d1"], [b"1"]), block(["d2", "d1"], [b"22", b"3"])])
    assert isinstance(found, RecordBlock)
    assert found == found
    assert [(one.key, one.value) for one in found] == [(b"alice/d1", b"1"), (b"alice/d2", b"22"), (b"alice/d1", b"3")]
    assert found.payload == 4
    nothing: list[IngestRecord] = []
    assert merged([block(["d1"], [b"1"]), nothing]) is None
    assert merged([]) is None
