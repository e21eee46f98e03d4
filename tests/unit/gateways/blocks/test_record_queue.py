"""What waits for Kafka, in blocks or not: what is taken, parted and left is what it would be of a list."""

from hypothesis import given
from hypothesis import strategies as st

from app.gateways.blocks.record_block import RecordBlock, joined
from app.gateways.blocks.record_queue import RecordQueue, queue_of
from app.gateways.record import IngestRecord
from tests.unit.gateways.blocks.test_record_block import block
from tests.unit.gateways.intake_world import record

Part = RecordBlock | list[IngestRecord]

_devices = st.lists(st.sampled_from([f"d{number}" for number in range(8)]), min_size=1, max_size=12)


@st.composite
def parts(draw: st.DrawFn) -> list[Part]:
    """Blocks and lists of records, with different values."""
    made: list[Part] = []
    for at, devices in enumerate(draw(st.lists(_devices, max_size=5))):
        values = [b"%d-%d" % (at, number) for number in range(len(devices))]
        as_block = draw(st.booleans())
        pairs = zip(devices, values, strict=True)
        made.append(block(devices, values) if as_block else [record("alice", one, value) for one, value in pairs])
        if as_block and draw(st.booleans()):
            made[-1][0].headers.append(("traceparent", b"of a span"))  # of which the block itself knows nothing
    return made


def of(count: int, keys: list[bytes]) -> list[int]:
    """Their partitions: by the number of the device."""
    return [int(key[-1:]) % count for key in keys]


@given(parts(), st.integers(1, 5), st.lists(st.integers(0, 20), max_size=6), st.booleans())
def test_it_is_what_a_list_would_be(given_parts: list[Part], count: int, takes: list[int], again: bool) -> None:
    whole = list(given_parts)
    queues = queue_of(joined(whole)).parted(lambda keys: of(count, keys))
    if again:  # a topic has got more partitions
        halves = [queue.parted(lambda keys: of(count * 2, keys)) for queue in queues.values()]
        assert sum(map(len, halves)) == len({one for half in halves for one in half})
        queues, count = {at: queue for half in halves for at, queue in half.items()}, count * 2
    touched = [one for part in whole if type(part) is RecordBlock and not part.untouched for one in part]
    taken: dict[int, list[RecordQueue]] = {}
    for number in takes:
        for at, queue in queues.items():
            taken.setdefault(at, []).append(queue.take(min(number, len(queue))))
            assert len(taken[at][-1]) <= number
    records = [one for part in whole for one in part]
    for at, queue in queues.items():
        expected = [one for one in records if of(count, [one.key]) == [at]]
        found = [one for some in taken.get(at, []) for one in some.records()] + queue.records()
        assert len(found) == len(expected)
        assert all(one is other for one, other in zip(found, expected, strict=True))
    assert sum(map(len, queues.values())) + sum(len(one) for some in taken.values() for one in some) == len(records)
    assert all(one.headers[-1][0] == "traceparent" for one in touched[:1])


def test_nothing_waits_where_nothing_is() -> None:
    assert not queue_of([])
    assert not queue_of(joined([[], []]))
    assert queue_of([]).parted(lambda _: []) == {}


def test_what_is_put_behind_waits_behind() -> None:
    first = queue_of(joined([block(["d1"], [b"1"])]))
    first.add(queue_of([record("alice", "d1", b"2")]))
    assert [one.value for one in first.records()] == [b"1", b"2"]


def test_a_part_of_a_block_is_parted_again_and_cut() -> None:
    made = block([f"d{number}" for number in range(8)], [b"%d" % number for number in range(8)])
    odd = queue_of(joined([made])).parted(lambda keys: of(2, keys))[1]
    found = odd.parted(lambda keys: of(4, keys))
    first = found[3].take(1)
    assert ([*first.records(), *found[3].records()], found[1].records()) == ([made[3], made[7]], [made[1], made[5]])
