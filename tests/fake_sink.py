"""A destination in memory and its sink, which can fail, hang or refuse; both pass the contract suite of real sinks."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from app.sinks.port import Flushed, Held, MayWrite, SinkUnavailable, always
from app.sinks.record import SinkRecord

Place = tuple[int, int]  # partition, offset


class Destination:
    """The written records with their counts; shared by the sinks of several processes."""

    def __init__(self) -> None:
        self.written: Counter[Place] = Counter()
        self.before: Counter[Place] = Counter()  # of truncated logs
        self.anew: list[set[int]] = []  # arguments of `begin_anew`
        self.order: list[Place] = []
        self.away = False
        self.fails_after: int | None = None  # number of records of a flush that are taken before it fails
        self.ends_after: int | None = None  # number of records that a flush takes before it ends without a failure
        self.refuses: Callable[[SinkRecord], bool] = lambda record: False
        self.answers = asyncio.Event()  # clear: a write hangs
        self.answers.set()
        self.keeps_offsets = False  # `resume` returns offsets, and repeats are left out
        self.opened = 0

    def ends(self) -> dict[int, int]:
        """{partition: offset after the last written record}."""
        ends: dict[int, int] = {}
        for partition, offset in self.written:
            ends[partition] = max(ends.get(partition, 0), offset + 1)
        return ends


class FakeSink:
    """app.sinks.port.Sink on a Destination, one write per record."""

    kind = "fake"

    def __init__(
        self, destination: Destination, name: str = "fake", linger: float = 0.0, due_at: int = 1_000_000
    ) -> None:
        self.destination, self.name, self.linger, self._due_at = destination, name, linger, due_at
        self._held: list[SinkRecord] = []
        self._bytes, self._oldest = 0, 0.0
        self._upto: dict[int, int] = {}  # completed, and not reported yet
        self._refused: list[tuple[SinkRecord, str]] = []
        self.most_bytes = 0
        self.closed = self.flushing = False

    async def open(self) -> None:
        if self.destination.away:
            raise SinkUnavailable("nobody answers")
        self.destination.opened += 1

    async def resume(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        if self.destination.away:
            raise SinkUnavailable("nobody answers")
        if not self.destination.keeps_offsets:
            return {}
        return {number: end for number, end in self.destination.ends().items() if number in partitions}

    async def begin_anew(self, partitions: Collection[int]) -> None:
        self.destination.anew.append(set(partitions))
        if not self.destination.keeps_offsets:
            return
        for place in [place for place in self.destination.written if place[0] in partitions]:
            self.destination.before[place] += self.destination.written.pop(place)

    def add(self, records: Sequence[SinkRecord]) -> None:
        if not self._held:
            self._oldest = time.monotonic()
        self._held += records
        self._bytes += sum(len(record.payload) for record in records)
        self.most_bytes = max(self.most_bytes, self._bytes)

    @property
    def held(self) -> Held:
        count = len(self._held) + len(self._refused)
        return Held(count, self._bytes, self._oldest if count else None)

    @property
    def due(self) -> bool:
        return len(self._held) >= self._due_at

    async def flush(self, may_write: MayWrite = always) -> Flushed:
        self.flushing = True
        try:
            return await self._flushed(may_write)
        finally:
            self.flushing = False

    async def _flushed(self, may_write: MayWrite) -> Flushed:
        taken = 0
        while self._held and taken != self.destination.ends_after and may_write():
            record = self._held[0]
            if self.destination.away or taken == self.destination.fails_after:
                self.destination.fails_after = None
                raise SinkUnavailable("nobody answers", so_far=self._done())
            await self.destination.answers.wait()
            if self.destination.refuses(record):
                self._refused.append((record, "not that one"))
            elif not (self.destination.keeps_offsets and (record.partition, record.offset) in self.destination.written):
                place = (record.partition, record.offset)
                self.destination.written[place] += 1
                self.destination.order.append(place)
            del self._held[0]  # no await from here on, so no cancellation in between
            self._bytes -= len(record.payload)
            self._upto[record.partition] = record.offset + 1
            taken += 1
            if taken % 50 == 0:
                await asyncio.sleep(0)
        return self._done()

    def _done(self) -> Flushed:
        found = Flushed(self._upto, self._refused)
        self._upto, self._refused = {}, []
        return found

    async def revoked(self, partitions: Collection[int]) -> None:
        self._held = [record for record in self._held if record.partition not in partitions]
        self._refused = [one for one in self._refused if one[0].partition not in partitions]
        self._upto = {number: offset for number, offset in self._upto.items() if number not in partitions}
        self._bytes = sum(len(record.payload) for record in self._held)

    async def close(self) -> None:
        self.closed = True
