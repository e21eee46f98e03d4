"""The lanes of one sink: records in, each to its lane; out, the size of the buffer, and the result of a flush."""

import time
from collections.abc import Callable, Collection, Sequence

from app.sinks.port import Flushed, Held, MayWrite, SinkUnavailable, always
from app.sinks.pushing.lane import PushLane
from app.sinks.record import SinkRecord
from app.sinks.record_memory import memory

IN_DOUBT = 4  # factor on the limit of records while a record is in doubt


class PushLanes:
    """Independent lanes; all records of a device are in the same lane."""

    def __init__(
        self, lanes: Sequence[PushLane], lane_of: Callable[[SinkRecord], int], most: int, most_bytes: int
    ) -> None:
        """`lane_of` returns the number of a record's lane, the same for all records of a device. The buffer is full at
        `most` records; the runner bounds its memory to `most_bytes`.
        """
        self._lanes, self._lane_of, self._most, self._most_bytes = lanes, lane_of, most, most_bytes
        self._ends: dict[int, int] = {}  # partition -> the offset after the last added record
        self._held = Held()
        self._under_way = False  # a flush is running, or was cancelled
        self._may_write: MayWrite = always
        self._failure: SinkUnavailable | None = None
        self._in_doubt = False  # a record may have caused the failure
        self._suppressed = True  # the last such failure was not raised

    @property
    def held(self) -> Held:
        """The records that are not settled."""
        if self._under_way:
            self._count()
        return self._held

    def busy(self) -> list[PushLane]:
        """The lanes with records."""
        return [lane for lane in self._lanes if len(lane)]

    def add(self, records: Sequence[SinkRecord]) -> None:
        """Add records, in order by partition."""
        if not records:
            return
        lanes, lane_of, ends = self._lanes, self._lane_of, self._ends
        for record in records:
            lanes[lane_of(record)].add(record)
            ends[record.partition] = record.offset + 1
        count, held, oldest = len(records), self._held, self._held.oldest
        size = memory(records) + held.bytes
        count += held.records
        self._held = Held(count, size, time.monotonic() if oldest is None else oldest, count >= self._most)

    def begin(self, may_write: MayWrite = always) -> None:
        """A flush begins, which ends with `finish` unless it is cancelled."""
        self._may_write = may_write
        self._failure, self._in_doubt, self._under_way = None, False, True

    @property
    def ended(self) -> bool:
        """Whether the flush has failed or may not write, for all lanes: requests in flight are awaited, and no more
        are sent.
        """
        return self._failure is not None or not self._may_write()

    def fail(self, failure: SinkUnavailable, *, in_doubt: bool = False) -> None:
        """The receiver is unavailable or, with `in_doubt`, has failed on a record that may be the cause."""
        if self._failure is None:
            self._failure, self._in_doubt = failure, in_doubt

    def finish(self) -> Flushed:
        """What was settled since the last call. Raises SinkUnavailable, with that in `so_far`, if the flush failed."""
        done = self._done()
        self._under_way = False
        if self._failure is None or self._reads_on():
            return done
        self._failure.so_far = done
        raise self._failure

    def _reads_on(self) -> bool:
        """Whether a failure is not raised, every other time, so that the runner continues reading: all records left are
        of devices in doubt, and only other records can show whether the receiver is available.
        """
        held = self._held
        room = held.records < IN_DOUBT * self._most and held.bytes < self._most_bytes
        if not room or not self._in_doubt or not all(lane.doubtful for lane in self.busy()):
            return False
        self._suppressed = not self._suppressed
        return self._suppressed

    def _done(self) -> Flushed:
        upto = dict(self._ends)
        for lane in self._lanes:
            for record in lane.records():
                if record.offset < upto[record.partition]:
                    upto[record.partition] = record.offset
        refused = [one for lane in self._lanes for one in lane.refused]
        for lane in self._lanes:
            lane.refused.clear()
        self._count()
        return Flushed(upto, refused)

    def drop(self, partitions: Collection[int]) -> None:
        """Drop the records of these partitions."""
        for lane in self._lanes:
            lane.drop(partitions)
        for partition in partitions:
            self._ends.pop(partition, None)
        self._count()

    def _count(self) -> None:
        left = [record for lane in self._lanes for record in lane.records()]
        self._held = Held(len(left), memory(left), self._held.oldest if left else None, len(left) >= self._most)
