"""Where each partition resumes after a rebalance: offsets of the group, the destination and this process in, seeks out.

Buffered records of a partition that this process keeps stay buffered if no other process has committed meanwhile. All
other partitions resume at the committed offset, which is after the last flush whose dead letters are sent. A
destination that stores offsets itself (in names of files) may be ahead, and leaves out the records that it has.

    another topic, or a truncated log    at the log's start: all known offsets belong to other records
    no committed offset                  where a new sink begins, but not after the destination's offset
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeVar

import structlog

from app.core.state.partition_log import Verdict
from app.sinks.port import Sink
from app.sinks.running.books import SinkBooks
from app.sinks.running.closing import SinkClosing
from app.sinks.running.consumer import LOST_END, LogPlaces, SinkConsumer
from app.sinks.running.losses import report_begun_anew, report_missed
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
        self._identity = ""  # of the topic being read
        self._anew: set[int] = set()  # partitions whose logs are read from their start
        self.flush_first = False  # buffered records are of an earlier log: flush them before `settle`

    async def begin(self) -> None:
        """Drop partitions that are no longer assigned, and add newly assigned partitions, so that their lag is known.

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
        """The logs of these partitions were reset: nothing is read or committed there before the next `settle`."""
        self._anew |= set(partitions)
        self.flush_first = True
        self._progress.forget(partitions)
        self._consumer.unsettle()

    async def settle(self, topic: str, make: "Make[Mapping[int, int]]") -> None:
        """Determine where each partition of `topic` resumes, and seek there; does nothing if a rebalance happens
        meanwhile. Raises KAFKA_ERRORS, and SinkUnavailable and TransientError as `make` does.
        """
        epoch, assigned = self._consumer.epoch, self._consumer.assigned
        kept = {number for number, one in self._progress.partitions.items() if one.settled}
        if kept and await self._consumer.identity() != self._identity:
            self.begin_anew(kept)
            return
        marks = await make("resume", lambda: self._sink.resume(topic, assigned))
        places = await self._consumer.positions(assigned)  # after the marks: an earlier end is a truncation
        if epoch != self._consumer.epoch or (kept and places.identity != self._identity):
            return
        lost = {number for number, mark in marks.items() if mark > places.ends.get(number, mark)} - kept
        lost |= self._anew & assigned
        if lost:
            self._anew |= lost  # before any rebalance during the next call
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
        """{partition: next offset to read}; restarts the progress of new partitions, and of partitions that another
        process has committed.
        """
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
                begins = min(begins, known.position)  # `latest` means the end at the time of the assignment, not now
            if number in anew:
                at = places.starts[number]
            else:
                at = min(begins, marks.get(number, begins)) if committed is None else committed
            seeks[number] = moved[number] = max(at, places.starts[number])
        if places.at_ends and (
            new := {number: moved[number] for number in moved.keys() - places.committed.keys() - anew}
        ):
            await self._consumer.commit(new)  # a restart before the first commit must not skip records
        if moved:
            await self._drop(set(moved))
            for number, at in moved.items():
                committed = None if number in anew else places.committed.get(number)
                self._progress.begin(number, at, committed, settled=True)
        return seeks

    def _report(self, anew: Collection[int], places: LogPlaces, kept: Collection[int]) -> None:
        other = bool(self._identity) and places.identity != self._identity
        usual = Verdict.OTHER.value if other else LOST_END
        report_begun_anew(self._sink.name, {number: places.of_other_logs.get(number, usual) for number in anew})
        for number in places.committed.keys() - set(anew) - set(kept):
            if (expected := places.committed[number]) < (start := places.starts[number]):
                report_missed(self._sink.name, number, expected, start)

    async def _drop(self, partitions: set[int]) -> None:
        """Drop the buffered records of these partitions, which another process reads."""
        self._closing.drop(partitions)
        before = self._sink.held.records
        await self._sink.revoked(partitions)
        self._books.count("revoked", before - self._sink.held.records)
