"""The buffer of several lanes, and the results of their flushes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sinks.port import Held, SinkUnavailable
from app.sinks.pushing.lane import TRIES, PushLane
from app.sinks.pushing.lanes import IN_DOUBT, PushLanes
from app.sinks.record import SinkRecord
from app.sinks.record_memory import RECORD_BYTES
from tests.unit.sinks.pushing.sent import record


def lanes(count: int = 2, most: int = 3, full: int = 100) -> tuple[list[PushLane], PushLanes]:
    """Devices are d0, d1, ...: the number of a device is the number of its lane."""
    made = [PushLane(most, 1 << 20) for _ in range(count)]
    return made, PushLanes(made, lambda one: int(one.device_id[1:]) % count, full, 1 << 20)


def take(lane: PushLane) -> None:
    batch = lane.batch(0)
    assert batch
    lane.settle(batch, {})


def test_what_is_held_is_counted() -> None:
    made, whole = lanes()
    assert whole.held == Held()
    whole.add([record(0, "u/d0", payload=b"12345"), record(1, "u/d1")])
    records, size, oldest, _ = whole.held
    assert (records, size) == (2, 2 * RECORD_BYTES + 2 * 7)
    assert oldest is not None
    whole.add([])
    whole.add([record(2, "u/d1")])
    assert (whole.held.records, whole.held.oldest) == (3, oldest), "the oldest is the first"
    whole.begin()
    take(made[0])
    whole.finish()
    assert whole.held == Held(2, 2 * RECORD_BYTES + 2 * 4, oldest)
    take(made[1])
    whole.finish()
    assert whole.held == Held()


def test_it_is_full_with_as_many_as_it_may_hold() -> None:
    made, whole = lanes(full=3)
    whole.add([record(n, "u/d0") for n in range(2)])
    assert not whole.held.full
    whole.add([record(2, "u/d1")])
    assert whole.held.full
    take(made[1])
    whole.finish()
    assert not whole.held.full


def test_a_flush_reports_what_was_settled_once() -> None:
    made, whole = lanes()
    whole.add([record(n, f"u/d{n % 2}", partition=n // 3) for n in range(6)])
    whole.begin()
    batch = made[0].batch(0)
    assert batch
    made[0].settle(batch, {1: "bad"})  # 0, 4; 2 is refused
    done = whole.finish()
    assert done.upto == {0: 1, 1: 3}
    assert [one.offset for one, _ in done.refused] == [2]
    take(made[1])
    assert whole.finish() == ({0: 3, 1: 6}, [])
    assert whole.finish() == ({0: 3, 1: 6}, [])


def test_a_failure_reports_what_was_settled() -> None:
    made, whole = lanes()
    whole.add([record(n, f"u/d{n % 2}") for n in range(4)])
    whole.begin()
    take(made[0])
    whole.fail(SinkUnavailable("first"))
    whole.fail(SinkUnavailable("second"))
    assert whole.ended
    with pytest.raises(SinkUnavailable, match="first") as caught:
        whole.finish()
    assert caught.value.so_far == ({0: 1}, [])
    whole.begin()
    assert not whole.ended
    take(made[1])
    assert whole.finish().upto == {0: 4}


def test_every_other_failure_over_a_device_in_doubt_lets_others_in() -> None:
    (lane,), whole = lanes(1, full=5)
    whole.add([record(0, "u/d0")])
    told = []
    for _ in range(TRIES + 4):
        whole.begin()
        batch = lane.batch(0)
        assert batch
        if not lane.fail(batch, "it fails"):
            whole.fail(SinkUnavailable("it fails"), in_doubt=True)
        try:
            told.append(whole.finish().upto == {0: 0})
        except SinkUnavailable:
            told.append(False)
    assert told[: TRIES - 1] == [False] * (TRIES - 1), "nobody is in doubt yet"
    assert sorted(told[-4:]) == [False, False, True, True]
    assert told[-4] != told[-3]
    whole.add([record(n, "u/d0") for n in range(1, IN_DOUBT * 5)])
    whole.begin()
    whole.fail(SinkUnavailable("it fails"), in_doubt=True)
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            whole.finish()  # the buffer is full
    whole.begin()
    whole.fail(SinkUnavailable("nobody there"))
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            whole.finish()


def test_revoked_records_are_neither_held_nor_reported() -> None:
    _, whole = lanes()
    whole.add([record(n, f"u/d{n % 2}", partition=n % 2) for n in range(4)])
    whole.drop([1])
    assert whole.held.records == 2
    assert whole.finish().upto == {0: 0}
    whole.add([record(1, "u/d1", partition=1)])
    assert whole.finish().upto == {0: 0, 1: 1}


@given(
    adds=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=40),
    steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["take", "reject", "later", "refuse", "fail"]))),
)
def test_open_records_are_never_reported_as_completed(
    adds: list[tuple[int, int]], steps: list[tuple[int, str]]
) -> None:
    made, whole = lanes(3)
    records = [record(n, f"u/d{device}", partition) for n, (partition, device) in enumerate(adds)]
    whole.add(records)
    refused: list[SinkRecord] = []
    for number, step in steps:
        whole.begin()
        batch = made[number].batch(0)
        if batch is None:
            continue
        match step:
            case "take":
                made[number].settle(batch, {})
            case "reject":
                made[number].settle(batch, {0: "bad"})
            case "later":
                made[number].settle(batch, {}, [len(batch.records) - 1])
            case "refuse":
                made[number].refuse(batch, "bad")
            case "fail":
                made[number].fail(batch, "it fails")
        done = whole.finish()
        refused += [one for one, _ in done.refused]
        still = [one for lane in made for one in lane.records()]
        assert all(done.upto[one.partition] <= one.offset for one in still)
        for partition, offset in done.upto.items():
            ours = [one.offset for one in records if one.partition == partition]
            left = [one.offset for one in still if one.partition == partition]
            assert offset == min(left, default=ours[-1] + 1)
        assert whole.held.records == len(still)
    places = [(one.partition, one.offset) for one in refused]
    assert len(places) == len(set(places))
