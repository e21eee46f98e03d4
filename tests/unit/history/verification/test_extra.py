"""Which rows the range of a verification must have the records of."""

from datetime import UTC, datetime, timedelta

from app.core.model.keys import device_key
from app.history.verification.extra import SKEW, RowWindow, window_of
from app.history.verification.verify import VerifyRange
from app.kafka.messages import key_partition
from app.kafka.reading.offset_ranges import PartitionRange

START = datetime(2026, 11, 21, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
NOW = START + timedelta(days=1)
AHEAD = timedelta(minutes=5)


def since(found: RowWindow | None) -> dict[int, timedelta]:
    assert found
    return {partition: at - START - AHEAD - SKEW for partition, at in found.since.items()}


def test_rows_are_looked_at_from_the_first_record_on_plus_what_a_clock_may_be_ahead() -> None:
    found = window_of({0: START_MS, 1: START_MS + 60_000}, {0: 0, 1: 7}, {0, 1}, AHEAD, NOW)
    assert since(found) == {0: timedelta(0), 1: timedelta(minutes=1)}
    assert found
    assert found.begin == START + AHEAD + SKEW


def test_a_partition_that_retention_has_emptied_says_nothing_of_its_rows() -> None:
    found = window_of({0: START_MS}, {0: 0, 1: 7, 2: 0}, {0, 1, 2}, AHEAD, NOW)
    assert found
    assert found.since[1] == NOW
    assert found.since[2] == found.since[0], "nothing was ever removed from it"


def test_a_partition_outside_of_the_range_goes_as_far_back_as_the_range() -> None:
    found = window_of({0: START_MS, 1: START_MS + 60_000}, {0: 3, 1: 7, 2: 9}, {0, 1}, AHEAD, NOW)
    assert since(found)[2] == timedelta(minutes=1)


def test_without_a_record_there_is_no_window() -> None:
    assert window_of({}, {0: 0}, {0}, AHEAD, NOW) is None


def test_a_row_counts_when_its_partition_is_read_and_both_its_ways_are_far_back_enough() -> None:
    partition, of_node = key_partition(device_key("u", "d"), 12), key_partition(b"u", 12)
    assert partition != of_node, "else this tests nothing"
    early, late = START + timedelta(hours=1), START + timedelta(hours=2)
    ways = {number: late if number == of_node else early for number in range(12)}
    window = RowWindow(ways, NOW, frozenset({partition}))
    assert not window.takes((early, "u", "d", 1)), "a sensor of the node u could have it"
    assert window.takes((late, "u", "d", 1))
    elsewhere = RowWindow(ways, NOW, frozenset(set(ways) - {partition, of_node}))
    assert not elsewhere.takes((late, "u", "d", 1))


def test_what_was_asked_for_is_the_floor_where_kafka_has_records_of_before() -> None:
    parts = {0: PartitionRange(5, 9), 1: PartitionRange(3, 9), 2: PartitionRange(8, 8)}
    found = VerifyRange(parts, {0: 0, 1: 3, 2: 4})
    assert found.floors(1_000, {0: 5_000, 1: 6_000}) == {0: 1_000, 1: 6_000, 2: 1_000}
    assert found.floors(None, {0: 5_000}) == {0: 5_000}
