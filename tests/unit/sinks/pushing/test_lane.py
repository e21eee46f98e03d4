"""Batches of a lane with any behaviour of a receiver: in order per device, and no device is delayed for long."""

from collections import Counter
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sinks.pushing.lane import KNOWN, ROW, STRIKES, TRIES, PushBatch, PushLane, TakenCount
from app.sinks.record import SinkRecord
from tests.unit.sinks.pushing.sent import record

WHY = "as the test says"
Place = tuple[int, int]


def place(one: SinkRecord) -> Place:
    return one.partition, one.offset


def lane(*records: SinkRecord, most: int = 4, most_bytes: int = 1 << 20) -> PushLane:
    made = PushLane(most, most_bytes)
    for one in records:
        made.add(one)
    return made


def first(of: PushLane) -> PushBatch:
    found = of.batch(0)
    assert found
    return found


def offsets(batch: PushBatch | None) -> list[int]:
    return [one.offset for one in batch.records] if batch else []


class Receiver:
    """Refuses each batch with a record of `bad`, and fails on each batch with a record of `poison`."""

    def __init__(self, bad: Collection[Place] = (), poison: Collection[Place] = ()) -> None:
        self.bad, self.poison = bad, poison
        self.taken: list[SinkRecord] = []
        self.asked = 0

    def flush(self, of: PushLane, cuts: str = "") -> bool:
        """As a sink does it; whether nothing failed. `cuts` are what becomes of its requests, one after another: b, it
        is cut before it was taken; a, after.
        """
        todo = iter(cuts)
        while (batch := of.batch(0)) is not None:
            self.asked += 1
            cut = next(todo, "")
            places = {place(one) for one in batch.records}
            if cut == "b":
                return False
            if places & set(self.poison):
                if not of.fail(batch, WHY):
                    return False
            elif places & set(self.bad):
                of.refuse(batch, WHY)
            else:
                self.taken += batch.records
                if cut == "a":
                    return False
                of.settle(batch, {})
        return True


def test_a_batch_is_full_or_all_there_is() -> None:
    made = lane(*(record(n) for n in range(9)))
    assert [offsets(made.batch(index)) for index in range(4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8], []]
    assert offsets(first(made)) == [0, 1, 2, 3], "it is the same one until it is settled"
    made.settle(first(made), {})
    assert offsets(first(made)) == [4, 5, 6, 7]
    assert len(made) == 5


def test_bytes_bound_a_batch_and_a_large_payload_goes_alone() -> None:
    sizes = [40, 40, 40, 200, 10]
    made = lane(*(record(n, payload=bytes(size)) for n, size in enumerate(sizes)), most_bytes=100)
    assert [offsets(made.batch(index)) for index in range(4)] == [[0, 1], [2], [3], [4]]


def test_what_is_rejected_is_let_go_and_what_comes_later_comes_first() -> None:
    made = lane(*(record(n) for n in range(6)))
    made.settle(first(made), {1: "never"}, later=[3, 2])
    assert [(one.offset, why) for one, why in made.refused] == [(1, "never")]
    assert [offsets(made.batch(index)) for index in range(2)] == [[2, 3], [4, 5]]


def test_a_refused_batch_is_halved_to_the_record_at_fault() -> None:
    made, receiver = lane(*(record(n) for n in range(8)), most=8), Receiver(bad=[(0, 5)])
    assert receiver.flush(made)
    assert [one.offset for one, _ in made.refused] == [5]
    assert [one.offset for one in receiver.taken] == [0, 1, 2, 3, 4, 6, 7]


def test_after_some_failures_a_batch_is_halved_to_the_record_at_fault_and_others_are_taken() -> None:
    records = [record(n, f"u/d{n % 4}") for n in range(8)]
    made, receiver = lane(*records, most=8), Receiver(poison=[(0, 4)])
    assert [receiver.flush(made) for _ in range(TRIES)] == [False] * TRIES
    assert sorted(one.offset for one in receiver.taken) == [0, 1, 2, 3, 5, 6, 7]
    assert made.doubtful, "all that is left is the device in doubt"
    for number in range(STRIKES - 1):  # the records after it were taken already
        assert not made.refused, f"{number} others were taken meanwhile"
        made.add(record(8 + number, f"u/other{number}"))
        receiver.flush(made)
    assert [one.offset for one, _ in made.refused] == [4]
    assert len(made) == 0


def test_a_device_in_doubt_keeps_its_order_behind_all_others() -> None:
    records = [record(0, "u/bad"), record(1, "u/bad"), record(2), record(3, "u/bad")]
    made, receiver = lane(*records, most=1), Receiver(poison=[(0, 0)])
    for _ in range(TRIES):
        receiver.flush(made)
    assert [one.offset for one in made.records()] == [0, 1, 3]
    receiver.poison = ()
    assert receiver.flush(made)
    assert [one.offset for one in receiver.taken] == [2, 0, 1, 3]
    assert not made.refused


def test_what_it_takes_of_another_lane_proves_that_it_is_there() -> None:
    taken = TakenCount()
    made, other = PushLane(4, 1 << 20, taken), PushLane(4, 1 << 20, taken)
    receiver = Receiver(poison=[(0, 0)])
    made.add(record(0, "u/bad"))
    for number in range(TRIES + STRIKES):
        receiver.flush(made)
        other.add(record(1 + number, "u/good"))
        receiver.flush(other)
    assert [one.offset for one, _ in made.refused] == [0]


def test_a_receiver_that_fails_on_all_records_causes_no_refusal() -> None:
    records = [record(n, f"u/d{n % 5}") for n in range(30)]
    made, receiver = lane(*records, most=10), Receiver(poison=[place(one) for one in records])
    for _ in range(200):
        asked = receiver.asked
        assert not receiver.flush(made)
        assert receiver.asked - asked <= ROW
    assert not made.refused
    receiver.poison = ()
    assert receiver.flush(made)
    assert sorted(one.offset for one in receiver.taken) == list(range(30))


def test_a_device_with_many_faulty_records_delays_no_other_device() -> None:
    made, receiver = lane(most=10), Receiver(poison=[(0, n) for n in range(1000) if n % 10])
    for start in range(0, 1000, 10):
        made.add(record(start, f"u/good{start}"))
        for offset in range(start + 1, start + 10):
            made.add(record(offset, "u/bad"))
        receiver.flush(made)
    assert len(receiver.taken) == 100
    assert len(made.refused) > 500
    assert receiver.asked < 3000


def test_what_refuses_known_ones_is_asked_for_proof_again() -> None:
    poison = [record(n, "u/bad") for n in range(2 * KNOWN)]
    made, receiver = lane(most=1), Receiver(poison=[place(one) for one in poison])
    for one in poison:
        made.add(one)
    for number in range(20):
        made.add(record(1000 + number, "u/good"))
        receiver.flush(made)
        if made.refused:
            break
    assert len(made.refused) == KNOWN, "then somebody else has to be taken first"


@pytest.mark.parametrize("known", [False, True])
def test_a_device_that_is_taken_again_is_in_no_doubt(known: bool) -> None:
    made, receiver = lane(record(0, "u/bad"), most=1), Receiver(poison=[(0, 0)])
    for number in range(10 if known else 3):
        made.add(record(1 + number, "u/good"))
        receiver.flush(made)
    assert bool(made.refused) == known
    receiver.poison = ()
    made.add(record(50, "u/bad"))
    assert receiver.flush(made)
    made.add(record(51, "u/bad"))
    assert not made.goes_alone(first(made))


def test_batches_of_which_one_is_at_fault_go_one_by_one() -> None:
    made = lane(*(record(n) for n in range(12)))
    assert not made.goes_alone(first(made))
    made.single_out(2)
    for _ in range(2):
        assert made.goes_alone(first(made))
        made.settle(first(made), {})
    assert not made.goes_alone(first(made))


def test_what_is_dropped_is_gone_and_the_rest_is_in_order() -> None:
    made = lane(*(record(n, f"u/d{n % 2}", partition=n % 2) for n in range(6)), most=2)
    made.settle(first(made), {0: WHY, 1: WHY})
    made.batch(1)
    made.drop([0])
    assert [one.offset for one in made.records()] == [3, 5]
    assert [one.offset for one, _ in made.refused] == [1]
    receiver = Receiver()
    assert receiver.flush(made)
    assert [one.offset for one in receiver.taken] == [3, 5]


SENDS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 4), max_size=12),  # devices of one record each
        st.text("ab.", max_size=5),  # outcomes of the requests
    ),
    max_size=12,
)


@given(sends=SENDS, most=st.integers(1, 7), bad=st.sets(st.integers(0, 60)), poison=st.sets(st.integers(0, 60)))
def test_every_record_is_taken_in_order_or_refused_for_good_reason(
    sends: list[tuple[list[int], str]], most: int, bad: set[int], poison: set[int]
) -> None:
    made, offset = lane(most=most), 0
    receiver = Receiver({(0, n) for n in bad}, {(0, n) for n in poison})
    for devices, cuts in sends:
        for device in devices:
            made.add(record(offset, f"u/d{device}"))
            offset += 1
        receiver.flush(made, cuts)
    for number in range(40 + 12 * offset):  # no more cuts, and records of other devices
        made.add(record(1000 + number, "u/other"))
        receiver.flush(made)
    assert not [one for one in made.records() if one.offset < 1000]
    first_taken = list(Counter(one.offset for one in receiver.taken))
    refused = {one.offset for one, _ in made.refused}
    assert refused == {n for n in range(offset) if n in bad | poison}
    assert {n for n in first_taken if n < 1000} == set(range(offset)) - refused
    keys = {one.offset: one.key for one in receiver.taken}
    for key in set(keys.values()):
        of_device = [n for n in first_taken if keys[n] == key]
        assert of_device == sorted(of_device)
