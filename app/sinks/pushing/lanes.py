"""The lanes of one sink: records in, each to its lane; out, what is held, and how far a flush of all lanes came."""

import time
from collections.abc import Callable, Collection, Sequence

from app.sinks.port import Flushed, Held, SinkUnavailable
from app.sinks.pushing.lane import PushLane
from app.sinks.record import SinkRecord

IN_DOUBT = 4  # times as many records as fill it, for as long as a record is in doubt
OVERHEAD = 1000  # bytes that a record takes beside its payload, which it has twice: as bytes and decoded


class PushLanes:
    """Lanes that do not know of one another; all records of a device are in one."""

    def __init__(
        self, lanes: Sequence[PushLane], lane_of: Callable[[SinkRecord], int], most: int, most_bytes: int
    ) -> None:
        """`lane_of` gives the number of a record's lane, the same for all records of a device. With `most` records it
        is full; the runner bounds the memory of all to `most_bytes`.
        """
        self._lanes, self._lane_of, self._most, self._most_bytes = lanes, lane_of, most, most_bytes
        self._ends: dict[int, int] = {}  # partition -> the offset behind the last record that was added
        self._held = Held()
        self._under_way = False  # a flush, or it was cancelled
        self._failure: SinkUnavailable | None = None
        self._in_doubt = False  # the failure is over a record, it may be
        self._kept_back = True  # a failure of this kind from the runner, the last time

    @property
    def held(self) -> Held:
        """What is not settled."""
        if self._under_way:
            self._count()
        return self._held

    def busy(self) -> list[PushLane]:
        """The lanes that have something to send."""
        return [lane for lane in self._lanes if len(lane)]

    def add(self, records: Sequence[SinkRecord]) -> None:
        """Take records, in order by partition."""
        if not records:
            return
        lanes, lane_of, ends, size = self._lanes, self._lane_of, self._ends, 0
        for record in records:
            lanes[lane_of(record)].add(record)
            ends[record.partition] = record.offset + 1
            size += 2 * len(record.payload)
        count, held, oldest = len(records), self._held, self._held.oldest
        size += OVERHEAD * count + held.bytes
        count += held.records
        self._held = Held(count, size, time.monotonic() if oldest is None else oldest, count >= self._most)

    def begin(self) -> None:
        """A flush begins, which ends with `finish` unless it is cancelled."""
        self._failure, self._in_doubt, self._under_way = None, False, True

    @property
    def failed(self) -> bool:
        """Whether the flush is over, for all lanes: what is under way is waited for, and nothing more is sent."""
        return self._failure is not None

    def fail(self, failure: SinkUnavailable, *, in_doubt: bool = False) -> None:
        """The receiver is away or, `in_doubt`, has failed over a record, which may be why."""
        if self._failure is None:
            self._failure, self._in_doubt = failure, in_doubt

    def finish(self) -> Flushed:
        """What was settled since the last call. Raises SinkUnavailable, with the same, if the flush has failed."""
        done = self._done()
        self._under_way = False
        if self._failure is None or self._lets_others_in():
            return done
        self._failure.so_far = done
        raise self._failure

    def _lets_others_in(self) -> bool:
        """Whether a failure is kept back, every other time, so that the runner goes on reading: all that is left is of
        devices in doubt, and only what the receiver takes of others can tell whether it is away.
        """
        held = self._held
        room = held.records < IN_DOUBT * self._most and held.bytes < self._most_bytes
        if not room or not self._in_doubt or not all(lane.doubtful for lane in self.busy()):
            return False
        self._kept_back = not self._kept_back
        return self._kept_back

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
        """Forget what is held of these partitions."""
        for lane in self._lanes:
            lane.drop(partitions)
        for partition in partitions:
            self._ends.pop(partition, None)
        self._count()

    def _count(self) -> None:
        left = [record for lane in self._lanes for record in lane.records()]
        size = sum(2 * len(record.payload) + OVERHEAD for record in left)
        self._held = Held(len(left), size, self._held.oldest if left else None, len(left) >= self._most)
