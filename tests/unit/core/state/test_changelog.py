"""The newest state of each key, whatever the order of the changelog's records; and which have to be written again."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.state.changelog import marks_last, newest
from app.core.state.device_state import VERSION, DeviceState, encode, seen
from app.core.state.keys import MARK_KEY
from app.core.state.partition_log import LOG_KEY, PartitionLog, note

KEYS = [b"u/d1", b"u/d2", MARK_KEY]


def nothing(key: bytes) -> bytes | None:
    return None


def state(key: bytes, offset: int) -> bytes:
    return b"%d" % offset if key == MARK_KEY else encode(DeviceState(applied_offset=offset))


@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 2**40)), max_size=12),
    st.dictionaries(st.sampled_from(KEYS), st.integers(0, 2**40)),
    st.lists(st.integers(0, 12), max_size=3),
)
def test_the_highest_wins_however_the_log_is_ordered_and_cut(
    log: list[tuple[bytes, int]], before: dict[bytes, int], cuts: list[int]
) -> None:
    stored: dict[bytes, bytes | None] = {key: state(key, offset) for key, offset in before.items()}
    overtaken: set[bytes] = set()
    edges = sorted({0, len(log), *(min(cut, len(log)) for cut in cuts)})
    for begin, end in itertools.pairwise(edges):
        stored |= newest([(key, state(key, offset)) for key, offset in log[begin:end]], stored.get, overtaken)
    best, last = dict(before), dict(log)
    for key, offset in log:
        best[key] = max(offset, best.get(key, -1))
    assert stored == {key: state(key, offset) for key, offset in best.items()}
    assert overtaken == {key for key, offset in last.items() if offset < best[key]}


def test_of_two_that_have_seen_as_much_the_later_is_taken() -> None:
    one, two = encode(DeviceState(7)), b"\x94\x01\x07\xc0\x80"
    assert seen(one) == seen(two) == (0, 7)
    assert newest([(b"k", one), (b"k", two)], nothing, set()) == {b"k": two}


def test_what_says_nothing_is_replaced_by_the_next_and_replaces_no_state() -> None:
    known = encode(DeviceState(3))
    overtaken: set[bytes] = set()
    assert newest([(b"k", b"garbage")], {b"k": known}.get, overtaken) == {}
    assert overtaken == {b"k"}
    assert newest([(b"k", b"one"), (b"k", b"\xff")], nothing, set()) == {b"k": b"\xff"}
    assert newest([(MARK_KEY, b"x"), (MARK_KEY, b"0")], nothing, set()) == {MARK_KEY: b"0"}


def test_a_deletion_is_taken() -> None:
    assert newest([(b"k", None)], {b"k": encode(DeviceState(3))}.get, set()) == {b"k": None}
    assert newest([(b"k", None), (b"k", encode(DeviceState(1)))], nothing, set()) == {b"k": encode(DeviceState(1))}


@pytest.mark.parametrize("data", [b"", b"7", b"\x91\x01", b"\x92\x01\xa1x", b"\xc1", b"\xff\0", b"one"])
def test_what_is_no_state_has_seen_nothing(data: bytes) -> None:
    assert seen(data) == (-1, -1)


def test_a_state_of_a_newer_program_can_be_compared() -> None:
    assert seen(encode(DeviceState(5)).replace(bytes([VERSION]), bytes([VERSION + 1]), 1)) == (0, 5)


def test_a_state_of_a_later_log_is_newer_whatever_its_offset() -> None:
    older, newer = encode(DeviceState(300)), encode(DeviceState(2, log=1))
    assert seen(newer) == (1, 2)
    for records in ([older, newer], [newer, older]):
        assert newest([(b"k", one) for one in records], nothing, set()) == {b"k": newer}
    first, second = note(PartitionLog(0, "a"), 300, 5), note(PartitionLog(1, "b"), 2, 6)
    for records in ([first, second], [second, first]):
        assert newest([(LOG_KEY, one) for one in records], nothing, set()) == {LOG_KEY: second}
    assert newest([(LOG_KEY, b"garbage")], {LOG_KEY: first}.get, set()) == {}


@pytest.mark.parametrize("mark", [b"", b"-1", b"x", b"9" * 5000, b"\xff"])
def test_a_mark_that_cannot_be_read_has_seen_nothing(mark: bytes) -> None:
    assert newest([(MARK_KEY, mark)], {MARK_KEY: b"0"}.get, set()) == {}


def test_no_mark_is_written_before_a_state() -> None:
    """Of several batches at once, and of a database in the order of its keys."""
    states = {MARK_KEY: b"5", LOG_KEY: b"-", b"u/d1": b"1"} | {b"u/d2": b"2", MARK_KEY: b"9"}
    assert list(marks_last(states.items())) == [(b"u/d1", b"1"), (b"u/d2", b"2"), (MARK_KEY, b"9"), (LOG_KEY, b"-")]
