"""Records in runs, each of which is decoded at once: small records together, large records alone."""

from hypothesis import given
from hypothesis import strategies as st

from app.sinks.running.intake import SLICE, SLICE_BYTES, slices
from tests.unit.records import Message


def _message(size: int) -> Message:
    return Message(b"x" * size, [], None, 0, 0)


@given(st.lists(st.sampled_from([0, 10, SLICE_BYTES // 3, SLICE_BYTES, SLICE_BYTES + 1]), max_size=40))
def test_a_run_is_of_limited_size_and_no_record_is_left_out(sizes: list[int]) -> None:
    runs = [[len(record.value or b"") for record in run] for run in slices([_message(size) for size in sizes])]
    assert [size for run in runs for size in run] == sizes
    assert all(run and (len(run) == 1 or sum(run) <= SLICE_BYTES) for run in runs)


def test_small_records_are_decoded_together() -> None:
    assert [len(run) for run in slices([_message(100)] * (2 * SLICE + 1))] == [SLICE, SLICE, 1]
