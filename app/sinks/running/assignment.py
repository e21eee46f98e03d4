"""Where each partition goes on after a rebalance: what the group, the destination and this process know in, seeks out.

What is held of a partition that stays ours is kept when nobody else has moved it meanwhile. All others go on where the
group has committed, which is after the last flush whose dead letters are sent. A destination that keeps offsets itself
(files named after them) may be ahead of that, and leaves out what it has.

    of another topic, or the log has lost its end    from the log's start: whatever is known is of other records
    nothing committed                                 where a new sink begins; not after what the destination has
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeVar

import structlog

from app.core.state.partition_log import Verdict
from app.sinks.port import Sink
from app.sinks.running.books import SinkBooks
from app.sinks.running.closing import SinkClosing
from app.sinks.running.consumer import LOST_END, LogPlaces, SinkConsumer
from app.sinks.running.losses import tell_begun_anew, tell_missed
from app.sinks.running.progress import Progress

log = structlog.get_logger()
T = TypeVar("T")

Make = Callable[[str, Callable[[], Awaitable[T]]], Awaitable[T]]  # SinkCalls.make


class Assignment:
    """The partitions of one sink."""

    def __init__(
        self, sink: Sink, consumer: SinkConsumer, progress: Progress, books: SinkBooks, closing: SinkClosing
    ) -> None:
        self._sink, self._consumer, self._progress = sink, consumer, progress
        self._books, self._closing = books, closing
        self._identity = ""  # of the topic that is read
        self._anew: set[int] = set()  # their logs count from the beginning again
        self.flush_first = False  # what is held is of a log before: it is flushed before anything is settled

    async def begin(self) -> None:
        """Let go of partitions that others have now, and begin with those that are new, so that their lag is known.

        Raises KAFKA_ERRORS.
        """
        assigned, known = self._consumer.assigned, self._progress.partitions
        if lost := set(known) - assigned:
            await self._drop(lost)
            self._progress.forget(lost)
        self._anew &= assigned
        fresh = assigned - set(known)
        places = await self._consumer.positions(fresh)
        for number in fresh & places.begins.keys():
            at = places.committed.get(number, places.begins[number])
            self._progress.begin(number, at, places.committed.get(number))

    def begin_anew(self, partitions: Collection[int]) -> None:
        """The logs of these partitions have gone back: nothing more is read or committed of them before `settle`."""
        self._anew |= set(partitions)
        self.flush_first = True
        self._progress.forget(partitions)
        self._consumer.unsettle()

    async def settle(self, topic: str, make: "Make[Mapping[int, int]]") -> None:
        """Find out where each partition of `topic` goes on, and read on from there; nothing is settled when a rebalance
        comes in between. Raises KAFKA_ERRORS, and SinkUnavailable and TransientError as `make` does.
        """
        epoch, assigned = self._consumer.epoch, self._consumer.assigned
        kept = {number for number, one in self._progress.partitions.items() if one.settled}
        if kept and await self._consumer.identity() != self._identity:
            self.begin_anew(kept)
            return
        marks = await make("resume", lambda: self._sink.resume(topic, assigned))
        places = await self._consumer.positions(assigned)  # later than the marks: a log that is whole ends behind them
        if epoch != self._consumer.epoch or (kept and places.identity != self._identity):
            return
        lost = {number for number, mark in marks.items() if mark > places.ends.get(number, mark)} - kept
        lost |= self._anew & assigned
        if lost:
            self._anew |= lost  # also when a rebalance comes now
            await make("resume", lambda: self._begun(lost))
            if epoch != self._consumer.epoch:
                return
        anew = (lost | places.of_other_logs.keys()) - kept
        seeks = await self._places(assigned, kept, anew, marks, places)
        self._report(anew, places, kept)
        self._identity = places.identity
        self._anew -= anew
        self._consumer.settle(epoch, seeks)
        positions = {number: one.position for number, one in self._progress.partitions.items()}
        log.info("sink_reads", sink=self._sink.name, group=self._consumer.group, positions=positions)

    async def _begun(self, lost: Collection[int]) -> Mapping[int, int]:
        await self._sink.begin_anew(lost)
        return {}

    async def _places(
        self, assigned: Collection[int], kept: set[int], anew: set[int], marks: Mapping[int, int], places: LogPlaces
    ) -> Mapping[int, int]:
        """{partition: offset that is read next}; partitions that others have moved, and new ones, are begun with."""
        seeks, moved = dict[int, int](), dict[int, int]()
        for number in places.starts.keys() & assigned:
            committed, begins = places.committed.get(number), places.begins[number]
            known = self._progress.partitions.get(number)
            if known is not None:
                reached = max(known.position, self._closing.reached(number))
                if number in kept and (committed is None or committed <= reached):
                    known.committed = committed
                    seeks[number] = known.read_to
                    continue
                begins = min(begins, known.position)  # with what was new when it came, not when it could begin
            if number in anew:
                at = places.starts[number]
            else:
                at = min(begins, marks.get(number, begins)) if committed is None else committed
            seeks[number] = moved[number] = max(at, places.starts[number])
        if places.at_ends and (
            new := {number: moved[number] for number in moved.keys() - places.committed.keys() - anew}
        ):
            await self._consumer.commit(new)  # a process that ends before its first commit must not begin later
        if moved:
            await self._drop(set(moved))
            for number, at in moved.items():
                committed = None if number in anew else places.committed.get(number)
                self._progress.begin(number, at, committed, settled=True)
        return seeks

    def _report(self, anew: Collection[int], places: LogPlaces, kept: Collection[int]) -> None:
        other = bool(self._identity) and places.identity != self._identity
        usual = Verdict.OTHER.value if other else LOST_END
        tell_begun_anew(self._sink.name, {number: places.of_other_logs.get(number, usual) for number in anew})
        begun = places.committed.keys() - set(anew) - set(kept)
        tell_missed(self._sink.name, {number: places.committed[number] for number in begun}, places.starts)

    async def _drop(self, partitions: set[int]) -> None:
        """Others have read on there, or will."""
        self._closing.drop(partitions)
        before = self._sink.held.records
        await self._sink.revoked(partitions)
        self._books.count("revoked", before - self._sink.held.records)
