"""Buffered rows of one partition: records in; out, files by day of the readings, for one claim."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from app.sinks.parquet.columns import OFFSET, FileLayout
from app.sinks.parquet.day_file import DayFile, EncodedFile
from app.sinks.parquet.footer import FileSource
from app.sinks.record import SinkRecord
from app.sinks.record_memory import memory

CHUNK = 1000  # records converted to columns at a time, in under 1 ms, so that the event loop is not blocked
CHUNK_BYTES = 12 << 20  # most memory that they take
DAY_MICROS = 86_400_000_000
_UNFIT = (pa.ArrowException, ValueError, TypeError, OverflowError)

Refused = tuple[SinkRecord, str]


class ClosedRows(Struct):
    """The rows of one claim."""

    files: list["Future[EncodedFile]"]
    refused: list[Refused]
    until: int  # every added record before this offset is in these rows, or in rows closed before
    records: int  # added records that were not refused, including records that another process has written
    bytes: int
    oldest: float


class PartitionRows:
    """Buffers the records of one partition in order of their offsets."""

    def __init__(self, layout: FileLayout, encoder: Executor, carried: int = 0) -> None:
        """`carried` records were added before and are read again: they count twice, as the runner counts them twice."""
        self._layout, self._encoder = layout, encoder
        self._waiting: list[SinkRecord] = []
        self._waiting_bytes = 0
        self._days: dict[str, DayFile] = {}
        self._refused: list[Refused] = []
        self._refused_bytes = 0
        self._records, self._until = carried, -1
        self.first = -1  # the lowest offset that was added
        self.oldest = time.monotonic()

    @property
    def records(self) -> int:
        """The number of buffered records."""
        return self._records + len(self._refused)

    @property
    def bytes(self) -> int:
        """About how much memory the records take."""
        return self._waiting_bytes + self._refused_bytes + sum(one.bytes for one in self._days.values())

    def begins_again(self, offset: int) -> bool:
        """Whether reading was reset to before the first buffered record, so that all buffered records come again."""
        return offset <= self.first

    def add(self, records: Sequence[SinkRecord]) -> None:
        """Add records; a repeated record is counted, and not added again. Never fails."""
        if self.first < 0:
            self.first = records[0].offset
        self._records += len(records)
        if records[0].offset < self._until:
            records = [record for record in records if record.offset >= self._until]
        if not records:
            return
        self._until = records[-1].offset + 1
        self._waiting += records
        self._waiting_bytes += memory(records)
        if len(self._waiting) >= CHUNK or self._waiting_bytes >= CHUNK_BYTES:
            self._convert_waiting()

    def close(self, source: FileSource) -> ClosedRows:
        """The buffered rows, to be written; nothing is added to this object afterwards."""
        self._convert_waiting()
        size = self.bytes
        files = [file.finish(source.footer(file.first, file.last, file.rows)) for file in self._days.values()]
        return ClosedRows(files, self._refused, self._until, self._records, size, self.oldest)

    def _convert_waiting(self) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for at in range(0, len(waiting), CHUNK):
            self._convert(waiting[at : at + CHUNK])

    def _convert(self, records: Sequence[SinkRecord]) -> None:
        try:
            batch = self._layout.batch(records)
        except _UNFIT as error:
            if len(records) == 1:
                self._refused.append((records[0], str(error)[:300]))
                self._refused_bytes += memory(records)
                self._records -= 1
                return
            half = len(records) // 2
            self._convert(records[:half])
            self._convert(records[half:])
            return
        for day, part in _by_day(batch):
            file = self._days.get(day)
            if file is None:
                file = self._days[day] = DayFile(day, self._layout, self._encoder)
            offsets = part.column(OFFSET)
            file.add(part, offsets[0].as_py(), offsets[len(offsets) - 1].as_py())


def _by_day(batch: Any) -> Iterator[tuple[str, Any]]:
    """The rows of each UTC day, in their order; most batches have one day."""
    ends = pc.min_max(batch.column("time").cast(pa.int64())).as_py()
    days = batch.column("time").cast(pa.date32())
    if ends["min"] // DAY_MICROS == ends["max"] // DAY_MICROS:
        yield days[0].as_py().isoformat(), batch
        return
    for day in pc.unique(days):
        yield day.as_py().isoformat(), batch.filter(pc.equal(days, day))
