"""Where a reset sets the offset of a partition, and what that means."""

import pytest
from aiokafka.structs import OffsetAndMetadata

from app.history.reset import OffsetMove, ResetPlan, move, target
from app.kafka.reading.offset_ranges import OffsetRange, PartError, PartitionRange, PartOfTopic

HELD = PartitionRange(50, 900)
SIGNED = "log=abc"


def moved(offset: int | None, to: int, metadata: str = SIGNED) -> OffsetMove:
    """The move of a partition of which this is committed; None: nothing is."""
    found = None if offset is None else OffsetAndMetadata(offset, metadata)
    return move(3, HELD, found, to, SIGNED)


def test_back_is_read_again_and_on_is_passed_over() -> None:
    back, on, same = moved(700, 100), moved(700, 850), moved(700, 700)
    assert (back.at, back.to, back.again, back.skipped, back.changes) == (700, 100, 600, 0, True)
    assert (on.again, on.skipped, on.changes) == (0, 150, True)
    assert (same.again, same.skipped, same.changes) == (0, 0, False)


@pytest.mark.parametrize("offset", [None, -1, 20, 901])
def test_where_no_offset_of_the_log_is_committed_workers_are_at_its_begin(offset: int | None) -> None:
    found = moved(offset, 60)
    assert (found.at, found.skipped, found.again, found.changes) == (50, 10, 0, True)


def test_an_offset_of_another_log_does_not_count_and_one_without_a_signature_does() -> None:
    assert moved(700, 700, "log=other") == OffsetMove(3, None, 50, 700)
    assert moved(700, 700, "log=other").changes, "it is committed, with the signature of this log"
    assert moved(700, 700, "").at == 700


def test_an_offset_that_was_named_is_taken_if_the_log_has_it() -> None:
    asked = PartOfTopic(offsets=(OffsetRange(3, 100, 100),))
    assert target(asked, 3, HELD, 0) == 100
    assert target(PartOfTopic(), 3, HELD, 77) == 77
    for edge in (50, 900):
        assert target(PartOfTopic(offsets=(OffsetRange(None, edge, edge),)), 3, HELD, 0) == edge
    for outside in (49, 901):
        with pytest.raises(PartError, match="partition 3 goes from offset 50 to 900"):
            target(PartOfTopic(offsets=(OffsetRange(3, outside, outside),)), 3, HELD, 0)


def test_a_plan_counts_all_partitions() -> None:
    plan = ResetPlan("t", SIGNED, (moved(700, 100), moved(700, 850), moved(100, 60)))
    assert (plan.again, plan.skipped) == (640, 150)
