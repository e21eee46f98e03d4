"""Keys in a temporary file: found again exactly, each once, in bounded memory."""

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from app.core.model.times import micros
from app.errors import PermanentError
from app.history.verification.store import VerifyStore, stored_key

START = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def store() -> Iterator[VerifyStore]:
    made = VerifyStore()
    yield made
    made.close()


def test_keys_of_readings_count_once_and_are_found_by_time(store: VerifyStore) -> None:
    keys = [stored_key(START + timedelta(seconds=number), "u", "d", number) for number in range(10)]
    assert store.add_readings(keys) == 10
    assert store.add_readings([keys[3], stored_key(START, "u", "d", 99), keys[4]]) == 1
    first, last = micros(START + timedelta(seconds=2)), micros(START + timedelta(seconds=4))
    assert store.readings(first, last) == set(keys[2:5])


def test_every_part_of_a_key_tells_rows_apart() -> None:
    keys = [
        stored_key(START, "u", "d", 1),
        stored_key(START + timedelta(microseconds=1), "u", "d", 1),
        stored_key(START, "ud", "", 1),
        stored_key(START, "u", "d1", 1),
        stored_key(START, "u", "d", -1),
        stored_key(START, "u", "\ud800", 1),
    ]
    assert len(set(keys)) == len(keys)
    assert all(-(1 << 63) <= number < 1 << 63 for key in keys for number in key)


def test_a_letter_is_of_the_same_place_and_payload_or_of_the_same_delivery(store: VerifyStore) -> None:
    store.add_letters([(3, 17, b"digest")], [b"mark"])
    assert store.has_letter((3, 17, b"digest"), None)
    assert not store.has_letter((3, 17, b"another"), None), "the topic was made anew"
    assert not store.has_letter((4, 17, b"digest"), None)
    assert store.has_letter((4, 17, b"digest"), b"mark")


def test_candidates_go_as_their_records_are_found(store: VerifyStore) -> None:
    rows = [(START + timedelta(seconds=number), "u", f"d{number}", number) for number in range(5)]
    store.add_candidates(rows[::-1])
    store.drop_candidates([stored_key(*rows[0]), stored_key(START, "u", "d", 77)])
    assert store.candidates() == 4
    assert store.first_candidates(2) == rows[1:3]


def test_memory_does_not_grow_with_the_records(store: VerifyStore) -> None:
    tracemalloc.start()
    try:
        for begin in range(0, 300_000, 5_000):
            at = [START + timedelta(milliseconds=number) for number in range(begin, begin + 5_000)]
            store.add_readings([stored_key(one, "user", "device", 1) for one in at])
        assert tracemalloc.get_traced_memory()[0] < 1 << 20, "300,000 keys would take 40 MB"
    finally:
        tracemalloc.stop()


def test_a_file_that_cannot_be_written_is_one_line() -> None:
    made = VerifyStore()
    made.close()
    with pytest.raises(PermanentError, match="SQLITE_TMPDIR"):
        made.candidates()
