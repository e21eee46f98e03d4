"""Which offsets of a topic the options of a command mean."""

from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import TopicPartition

from app.kafka.reading.offset_ranges import (
    OffsetRange,
    PartError,
    PartitionRange,
    PartOfTopic,
    offset_range,
    offsets_of,
    records_in,
)

TPS = [TopicPartition("t", number) for number in range(3)]
HELD = {0: (10, 110), 1: (0, 50), 2: (7, 7)}  # partition 2 is empty
# Offset -> timestamp: a record each 10 ms from 1,000 on, in partition 1 each 100 ms.
WRITTEN = {
    0: {offset: 1_000 + 10 * (offset - 10) for offset in range(10, 110)},
    1: {o: 1_000 + 100 * o for o in range(50)},
}


class Log:
    """A topic with the records of WRITTEN, asked as a RecordLog is."""

    tps = TPS

    async def starts(self) -> Mapping[TopicPartition, int]:
        return {tp: HELD[tp.partition][0] for tp in TPS}

    async def ends(self) -> Mapping[TopicPartition, int]:
        return {tp: HELD[tp.partition][1] for tp in TPS}

    async def since(self, ms: int, ends: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        def first(tp: TopicPartition) -> int:
            written = WRITTEN.get(tp.partition, {})
            return next((offset for offset, at in written.items() if at >= ms), ends[tp])

        return {tp: first(tp) for tp in TPS}


async def found(asked: PartOfTopic) -> dict[int, tuple[int, int]]:
    log: Any = Log()
    return {tp.partition: (one.begin, one.end) for tp, one in (await offsets_of(log, asked)).items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3:100-200", OffsetRange(3, 100, 200)),
        ("3:100", OffsetRange(3, 100, 100)),
        ("3:100-", OffsetRange(3, 100, None)),
        ("100-200", OffsetRange(None, 100, 200)),
        ("0:0-0", OffsetRange(0, 0, 0)),
    ],
)
def test_ranges(text: str, expected: OffsetRange) -> None:
    assert offset_range(text) == expected


@pytest.mark.parametrize("text", ["", "a", "3:", ":3", "-3", "3:200-100", "1:2:3", "3:1-2-3", "\uff19", "1" * 20])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(PartError, match=r"range|ends"):
        offset_range(text)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (PartOfTopic(), {0: (10, 110), 1: (0, 50), 2: (7, 7)}),
        (PartOfTopic(partitions=(1, 2)), {1: (0, 50), 2: (7, 7)}),
        (PartOfTopic(since_ms=1_500), {0: (60, 110), 1: (5, 50), 2: (7, 7)}),
        (PartOfTopic(since_ms=1_501), {0: (61, 110), 1: (6, 50), 2: (7, 7)}),
        (PartOfTopic(until_ms=1_500), {0: (10, 61), 1: (0, 6), 2: (7, 7)}),
        (PartOfTopic(since_ms=1_500, until_ms=1_500), {0: (60, 61), 1: (5, 6), 2: (7, 7)}),
        (PartOfTopic(since_ms=1_501, until_ms=1_509), {0: (61, 61), 1: (6, 6), 2: (7, 7)}),
        (PartOfTopic(since_ms=10**12), {0: (110, 110), 1: (50, 50), 2: (7, 7)}),
        (PartOfTopic(since_ms=0, until_ms=999), {0: (10, 10), 1: (0, 0), 2: (7, 7)}),
        (PartOfTopic(offsets=(OffsetRange(0, 20, 29),)), {0: (20, 30)}),
        (PartOfTopic(offsets=(OffsetRange(0, 20, None), OffsetRange(1, 3, 3))), {0: (20, 110), 1: (3, 4)}),
        (PartOfTopic(offsets=(OffsetRange(None, 5, 60),)), {0: (10, 61), 1: (5, 50), 2: (7, 7)}),
        (PartOfTopic(offsets=(OffsetRange(0, 500, 600),)), {0: (110, 110)}),
        (PartOfTopic(offsets=(OffsetRange(0, 0, 5),)), {0: (10, 10)}),
        (PartOfTopic((0,), (OffsetRange(None, 70, None),), 1_500, 1_700), {0: (70, 81)}),
    ],
)
async def test_the_offsets_of_a_part_are_those_that_fit_every_option(
    asked: PartOfTopic, expected: dict[int, tuple[int, int]]
) -> None:
    assert await found(asked) == expected


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (PartOfTopic(partitions=(1, 3, 7)), "no partition 3, 7: the topic's are 0 to 2"),
        (PartOfTopic(offsets=(OffsetRange(3, 0, None),)), "no partition 3"),
        (PartOfTopic((0, 1), (OffsetRange(2, 0, 5),)), "--offset names partition 2, which --partition leaves out"),
        (PartOfTopic(offsets=(OffsetRange(1, 0, 5), OffsetRange(1, 8, 9))), "two ranges of partition 1"),
        (PartOfTopic(offsets=(OffsetRange(None, 0, 5), OffsetRange(2, 8, 9))), "two ranges of partition 2"),
    ],
)
async def test_what_the_topic_does_not_have_is_refused(asked: PartOfTopic, words: str) -> None:
    with pytest.raises(PartError, match=words):
        await found(asked)


def test_times_that_lie_the_wrong_way_around_in_the_log_leave_an_empty_range() -> None:
    """Timestamps are the producers': a later time may have its first record at a lower offset."""
    assert PartOfTopic(since_ms=5, until_ms=6).within(0, PartitionRange(0, 100), 60, 40) == PartitionRange(60, 60)


def test_records_of_ranges_are_counted() -> None:
    assert records_in([PartitionRange(5, 9), PartitionRange(7, 7)]) == 4
