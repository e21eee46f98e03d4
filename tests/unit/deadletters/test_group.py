"""Where a replay begins, where it ends, and where the next command goes on."""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka import TopicPartition

from app.deadletters.group import ReplayMark, course
from app.deadletters.selection import Selection
from app.kafka.reading.offset_ranges import OffsetRange

P0, P1 = TopicPartition("dlq", 0), TopicPartition("dlq", 1)


class Log:
    """A log of two partitions whose offsets are also their times."""

    def __init__(self, starts: Mapping[Any, int], ends: Mapping[Any, int]) -> None:
        self.tps = [P0, P1]
        self._starts, self._ends = starts, ends

    async def starts(self) -> Mapping[Any, int]:
        return self._starts

    async def ends(self) -> Mapping[Any, int]:
        return self._ends

    async def since(self, ms: int, ends: Mapping[Any, int]) -> Mapping[Any, int]:
        return {tp: max(self._starts[tp], min(ms, ends[tp])) for tp in self.tps}


LOG: Any = Log({P0: 10, P1: 0}, {P0: 100, P1: 50})
GROWN: Any = Log({P0: 10, P1: 0}, {P0: 130, P1: 80})


async def test_a_first_replay_is_of_all_that_is_there() -> None:
    found = await course(LOG, Selection(), (None, None), {}, again=False)
    assert (found.at, found.ends, found.left, found.resumed) == ({P0: 10, P1: 0}, {P0: 100, P1: 50}, 140, False)
    offset, metadata = found.marks()[P0]
    assert (offset, msgspec.json.decode(metadata, type=ReplayMark)) == (10, ReplayMark(100))


async def test_what_is_asked_for_bounds_it() -> None:
    asked = Selection(partitions=(0,), offsets=(OffsetRange(None, 20, 29),))
    found = await course(LOG, asked, (25, 90), {}, again=False)
    assert (found.at, found.ends) == ({P0: 25}, {P0: 30})
    assert (found.chooser.since_ms, found.chooser.until_ms) == (25, 90)


async def test_one_that_was_ended_goes_on_to_its_own_end_with_its_own_times() -> None:
    """The letters that came since are another replay's, and an age such as 24h means what it meant at first."""
    before = {P0: (60, ReplayMark(100, 5, 70, 33)), P1: (50, ReplayMark(50, 5, 70, 7))}
    found = await course(GROWN, Selection(), (99, 99), before, again=False)
    assert (found.at, found.ends) == ({P0: 60, P1: 50}, {P0: 100, P1: 50})
    assert (found.resumed, found.was_done, found.left) == (True, 40, 40)
    assert (found.chooser.since_ms, found.chooser.until_ms) == (5, 70)


async def test_one_that_was_done_goes_on_with_what_came_since() -> None:
    before = {P0: (100, ReplayMark(100)), P1: (50, ReplayMark(50))}
    found = await course(GROWN, Selection(), (None, None), before, again=False)
    assert (found.at, found.ends, found.resumed) == ({P0: 100, P1: 50}, {P0: 130, P1: 80}, False)
    again = await course(GROWN, Selection(), (None, None), before, again=True)
    assert again.at == {P0: 10, P1: 0}


async def test_offsets_that_kafka_has_deleted_or_lost_are_passed_over() -> None:
    log: Any = Log({P0: 90, P1: 0}, {P0: 95, P1: 20})
    found = await course(
        log, Selection(), (None, None), {P0: (60, ReplayMark(100)), P1: (30, ReplayMark(50))}, again=False
    )
    assert (found.at, found.ends) == ({P0: 90, P1: 20}, {P0: 95, P1: 20})
