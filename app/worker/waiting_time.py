"""How long the oldest record of a partition that is not done has waited: in, where the log ended when; out, seconds.

A record was written after the last look that found a log without the record, and before the first look that found the
record: that holds by a clock that is never set. In between the record's own timestamp says when; the timestamp alone
speaks of what was there before the first look. So neither a clock that is set nor a record with a wrong time makes
anything late, and a replay, whose records are written anew, is not late because its readings are old.
Nobody asks Kafka anything more than the watchdog does.
"""

from collections.abc import Mapping
from math import inf
from typing import NamedTuple

from faust.types import TP

from app.core.model.arrival import AHEAD_MS, EARLIEST_MS
from app.stream.batches import BatchMessage

LOOKS = 256  # of a partition; with more, every second look is forgotten


class Look(NamedTuple):
    """A log ended at offset `end`, at least from `first` to `last`, seconds of a clock that is never set."""

    first: float
    last: float
    end: int


class Waiting(NamedTuple):
    """A partition at this moment."""

    seconds: float  # that the partition's oldest record has waited; 0: all records are done
    records: int  # not done
    done: int  # the offset up to which all records are done
    end: int


class WaitingTimes:
    """How long the records of the partitions of one epoch have waited."""

    def __init__(self) -> None:
        self._epoch = -1
        self._looks: dict[TP, list[Look]] = {}

    def look(self, epoch: int, ends: Mapping[TP, int], clock: float) -> None:
        """Note where the log of each partition ends now, at `clock`, seconds of a clock that is never set. In another
        epoch the worker may have other partitions.
        """
        if epoch != self._epoch:
            self._epoch, self._looks = epoch, {}
        self._looks = {tp: self._looks.get(tp, []) for tp in ends}
        for tp, end in ends.items():
            _add(self._looks[tp], end, clock)

    def now(
        self, epoch: int, done: Mapping[TP, int], heads: Mapping[TP, BatchMessage], clock: float, now: float
    ) -> dict[TP, Waiting]:
        """How long each partition of `done` has waited: `done` are the offsets up to which all is done, `heads` the
        batches that are worked on first, `clock` seconds of the clock of `look`, `now` seconds since 1970.
        """
        known = self._looks if epoch == self._epoch else {}
        found = {}
        for tp, offset in done.items():
            looks, head = known.get(tp, []), heads.get(tp)
            while len(looks) > 1 and looks[1].end <= offset:
                del looks[0]
            end = max(looks[-1].end if looks else offset, head.next_offset if head else offset)
            found[tp] = Waiting(_seconds(looks, offset, head, clock, now), end - offset, offset, end)
        return found


def _add(looks: list[Look], end: int, clock: float) -> None:
    """Note a look. Looks at a partition that is late for long are kept further apart: they need less precision."""
    if looks and looks[-1].end >= end:
        looks[-1] = looks[-1]._replace(last=clock)
        return
    if len(looks) > 1 and clock - looks[-2].last < (clock - looks[0].last) / LOOKS:
        looks.pop()
    looks.append(Look(clock, clock, end))
    if len(looks) > LOOKS:
        del looks[1:-1:2]


def _seconds(looks: list[Look], done: int, head: BatchMessage | None, clock: float, now: float) -> float:
    without = looks[0].last if looks and looks[0].end <= done else -inf
    found = next((look.first for look in looks if look.end > done), None)
    if found is None and head is None:
        return 0.0
    at_least = clock - found if found is not None else 0.0
    said = _said(head, now)
    return max(0.0, min(max(said, at_least), clock - without))


def _said(head: BatchMessage | None, now: float) -> float:
    """How old the first record of a batch is by its timestamp; 0 where it cannot have been written at that time."""
    if head is None:
        return 0.0
    written = head.value[0].timestamp
    return now - written / 1000 if EARLIEST_MS <= written <= now * 1000 + AHEAD_MS else 0.0
