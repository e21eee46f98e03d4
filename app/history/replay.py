"""Records of the input topic stored into a table: in, a course through the topic; out, each reading a row, once.

A chunk is read, decoded and stored; its offsets are committed once the database has all of it. After a kill between the
two the chunk is stored again, and the key of its rows takes no row twice. No worker and no group of workers notices. An
outage is waited out, from the last committed chunk on.
"""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiokafka import TopicPartition
from msgspec import Struct, field

from app.errors import PermanentError, TransientError
from app.history.counts import HistoryCounts
from app.history.course import HistoryCourse
from app.history.decoding import RUN_UP, HistoryDecoder
from app.history.target_table import TargetTable
from app.kafka.access import KAFKA_ERRORS, Access
from app.kafka.reading.record_log import RecordLog, record_log
from app.runtime.interrupt import Interrupt

CHUNK, CHUNK_BYTES = 20_000, 16 << 20  # records, and bytes of them, that are stored and committed together
PACES = 5  # chunks a second where a rate is set
LAST_SECONDS = 5.0  # for the chunk under way when the command is stopped
AGAIN_SECONDS = 1.0  # between two tries of reading
PATIENCE = 120.0  # seconds that an outage may take

DecoderOf = Callable[[], HistoryDecoder]


class HistoryChunk(Struct):
    """Records that are stored together, by partition and in their order, and where each partition is after them."""

    most: int  # records
    records: dict[TopicPartition, list[Any]] = field(default_factory=dict)
    at: dict[TopicPartition, int] = field(default_factory=dict)
    count: int = 0
    size: int = 0

    def add(self, tp: TopicPartition, record: Any) -> None:
        """Take a record."""
        self.records.setdefault(tp, []).append(record)
        self.at[tp] = record.offset + 1
        self.count += 1
        self.size += len(record.value or b"")

    @property
    def full(self) -> bool:
        """Whether it is time to store the chunk."""
        return self.count >= self.most or self.size >= CHUNK_BYTES


class HistoryReplay:
    """One replay. `progress` is called after each chunk."""

    def __init__(
        self, kafka: Access, topic: str, group: str, course: HistoryCourse, decoder: DecoderOf, table: TargetTable,
        interrupt: Interrupt, progress: Callable[[HistoryCounts], None], patience: float = PATIENCE,
        rate: float | None = None,
    ) -> None:  # fmt: skip
        """`decoder` makes one with an empty state, for each time that the reading begins. `rate`: records a second;
        None: as fast as the database takes them.
        """
        self._kafka, self._topic, self._group, self.course = kafka, topic, group, course
        self._decoder, self._table, self._interrupt = decoder, table, interrupt
        self._progress, self._patience, self._rate = progress, patience, rate
        self._most = CHUNK if rate is None else max(1, min(CHUNK, int(rate / PACES)))
        self.counts = HistoryCounts()

    async def run(self) -> bool:
        """Store all that is left of the course; False when it was interrupted before its end. Raises TransientError
        when Kafka or the database is away for longer than patience lasts, PermanentError when the database refuses; the
        next command goes on where this one was.
        """
        last = time.monotonic()
        while True:
            before, opened = self.course.left, False
            try:
                async with record_log(self._kafka, self._topic, group=self._group) as log:
                    opened = True
                    await self._interrupt.race(self._pass(log), LAST_SECONDS)
                return not self.course.left
            except (TransientError, PermanentError) as error:
                if opened and isinstance(error, PermanentError):  # the database's; a topic is missing for a moment
                    raise
                now = time.monotonic()
                if self.course.left < before:
                    last = now
                if self._interrupt.is_set():
                    return False
                if now - last > self._patience:
                    raise
                await self._interrupt.pause(AGAIN_SECONDS)

    async def _pass(self, log: RecordLog) -> None:
        decoder = self._decoder()
        try:
            await log.commit(self.course.marks())
            began, stored = time.monotonic(), 0
            async for chunk in self._chunks(log, decoder):
                await self._store(chunk, decoder)
                self.course.at |= chunk.at
                await log.commit({tp: mark for tp, mark in self.course.marks().items() if tp in chunk.at})
                self._progress(self.counts)
                stored += chunk.count
                if self._rate:
                    await self._interrupt.pause(max(0.0, began + stored / self._rate - time.monotonic()))
                if self._interrupt.is_set():
                    return
        except KAFKA_ERRORS as error:
            raise TransientError(f"cannot read {self._topic} from Kafka at {self._kafka}: {error!r}") from error

    async def _chunks(self, log: RecordLog, decoder: HistoryDecoder) -> AsyncIterator[HistoryChunk]:
        """The records of the course. Those of the run-up are decoded, and in no chunk."""
        begin = self.course.unfinished
        if not begin:
            return
        starts, chunk = await log.starts(), HistoryChunk(self._most)
        run_up = {tp: max(starts[tp], at - RUN_UP) for tp, at in begin.items()}
        async for records in log.follow(run_up, self.course.ends):
            if not records:
                continue
            tp = TopicPartition(records[0].topic, records[0].partition)
            if before := [record for record in records if record.offset < begin[tp]]:
                decoder.decode(tp, before)
            for record in records[len(before) :]:
                chunk.add(tp, record)
                if chunk.full:
                    yield chunk
                    chunk = HistoryChunk(self._most)
            if self._interrupt.is_set():
                yield chunk
                chunk = HistoryChunk(self._most)
        # What follows the last record may be no record: the marks of transactions.
        chunk.at |= {tp: self.course.ends[tp] for tp in begin}
        yield chunk

    async def _store(self, chunk: HistoryChunk, decoder: HistoryDecoder) -> None:
        """Count nothing before all of it is stored: what fails in the middle comes again."""
        done = []
        for tp, records in chunk.records.items():
            output = decoder.decode(tp, records)
            done.append((tp, records, output, await self._table.write(output.rows)))
        for tp, records, output, written in done:
            self.counts.add(tp.partition, records, output, written)
            self.course.stored[tp] += written.rows
