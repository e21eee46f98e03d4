"""Where a replay into a table begins, where it ends, and where the next command goes on."""

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from app.history.course import HistoryCourse, HistoryMark, history_course, marks_of
from app.kafka.reading.offset_ranges import PartitionRange

P0, P1 = TopicPartition("in", 0), TopicPartition("in", 1)
HELD = {P0: PartitionRange(10, 100), P1: PartitionRange(0, 50)}
ASKED = {P0: PartitionRange(20, 80), P1: PartitionRange(5, 50)}


def committed(course: HistoryCourse) -> dict[TopicPartition, OffsetAndMetadata]:
    """What Kafka keeps of a course."""
    return {tp: OffsetAndMetadata(*mark) for tp, mark in course.marks().items()}


def test_a_first_replay_is_of_all_that_was_asked_for() -> None:
    found = history_course(ASKED, HELD, {}, again=False)
    assert (found.at, found.ends, found.left, found.resumed) == ({P0: 20, P1: 5}, {P0: 80, P1: 50}, 105, False)
    assert found.unfinished == found.at


def test_one_that_was_ended_goes_on_to_its_own_end() -> None:
    first = history_course(ASKED, HELD, {}, again=False)
    first.at |= {P0: 60}
    first.stored[P0] = 33
    grown = {P0: PartitionRange(10, 500), P1: PartitionRange(0, 500)}
    later = {P0: PartitionRange(20, 400), P1: PartitionRange(5, 400)}
    found = history_course(later, grown, marks_of(committed(first)), again=False)
    assert (found.at, found.ends, found.resumed, found.stored_before) == ({P0: 60, P1: 5}, {P0: 80, P1: 50}, True, 33)
    assert found.stored == {P0: 33, P1: 0}
    again = history_course(later, grown, marks_of(committed(first)), again=True)
    assert (again.at, again.ends, again.resumed) == ({P0: 20, P1: 5}, {P0: 400, P1: 400}, False)


def test_one_that_is_done_takes_what_has_come_since() -> None:
    first = history_course(ASKED, HELD, {}, again=False)
    first.at = dict(first.ends)
    later = {P0: PartitionRange(20, 130), P1: PartitionRange(5, 50)}
    found = history_course(later, HELD | {P0: PartitionRange(10, 130)}, marks_of(committed(first)), again=False)
    assert (found.unfinished, found.left, found.resumed) == ({P0: 80}, 50, False)


def test_what_retention_has_taken_meanwhile_is_not_waited_for() -> None:
    first = history_course(ASKED, HELD, {}, again=False)
    left = {P0: PartitionRange(70, 100), P1: PartitionRange(50, 50)}
    found = history_course(left, left, marks_of(committed(first)), again=False)
    assert (found.unfinished, found.ends) == ({P0: 70}, {P0: 80, P1: 50})


def test_offsets_of_another_tool_are_no_marks() -> None:
    held = {P0: OffsetAndMetadata(7, ""), P1: OffsetAndMetadata(8, '{"end":9}')}
    assert marks_of(held) == {P1: (8, HistoryMark(9))}
