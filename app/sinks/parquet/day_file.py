"""Rows of one day to a Parquet file in memory: batches in, row groups encoded in a thread, bytes out."""

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from app.sinks.parquet.columns import OFFSET, ROW_GROUP, FileLayout
from app.sinks.parquet.footer import Footer

BATCH_BYTES = 2000  # overhead of a batch beside its values: readings of many days make small batches
GROUP_BYTES = 16 << 20  # most bytes of Arrow in a row group: rows of large payloads are encoded sooner


class EncodedFile(Struct, frozen=True):
    """A whole Parquet file in memory."""

    day: str  # 2026-11-30
    footer: Footer
    content: Any  # pyarrow.Buffer


class DayFile:
    """A growing file. A thread encodes ROW_GROUP rows at a time; rows take eight times the memory until then."""

    def __init__(self, day: str, layout: FileLayout, encoder: Executor) -> None:
        """`encoder` has one thread, so that the row groups of a file keep their order."""
        self.day, self._layout, self._encoder = day, layout, encoder
        self._waiting: list[Any] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._writes: list[Future[int]] = []
        self._encoding_bytes = 0  # of Arrow, given to the encoder
        self._encoded_bytes = 0
        self._stream: Any = None
        self._writer: Any = None
        self.rows, self.first, self.last = 0, -1, -1

    @property
    def bytes(self) -> int:
        """About how much memory the file takes."""
        if self._writes and self._writes[-1].done():
            self._encoding_bytes, self._encoded_bytes = 0, self._encoded_bytes + sum(map(_size, self._writes))
            self._writes = [write for write in self._writes if write.exception()]
        return self._waiting_bytes + self._encoding_bytes + self._encoded_bytes

    def add(self, batch: Any, first: int, last: int) -> None:
        """Add a pyarrow.RecordBatch whose rows have the offsets `first` to `last`, above all offsets before."""
        if self.rows == 0:
            self.first = first
        self.last, self.rows = last, self.rows + batch.num_rows
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes + BATCH_BYTES
        if self._waiting_rows >= ROW_GROUP or self._waiting_bytes >= GROUP_BYTES:
            self._hand_over()

    def finish(self, footer: Footer) -> "Future[EncodedFile]":
        """A future of the whole file; nothing is added afterwards."""
        self._hand_over()
        return self._encoder.submit(self._finish, footer, list(self._writes))

    def _hand_over(self) -> None:
        if not self._waiting:
            return
        batches, self._waiting = self._waiting, []
        self._encoding_bytes += self._waiting_bytes
        self._waiting_rows = self._waiting_bytes = 0
        self._writes.append(self._encoder.submit(self._write, batches))

    def _write(self, batches: Sequence[Any]) -> int:
        """Encode batches. Returns the bytes of the encoded rows. Runs in the encoder's thread, as all methods below."""
        table = pa.Table.from_batches(batches, self._layout.arrow)
        if self._writer is None:
            self._stream = pa.BufferOutputStream()
            self._writer = pq.ParquetWriter(self._stream, table.schema, **self._layout.options_for(table))
        before: int = self._stream.tell()
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        size: int = self._stream.tell() - before
        return size

    def _finish(self, footer: Footer, writes: Sequence[Future[int]]) -> EncodedFile:
        for write in writes:
            write.result()  # raises the error of the thread
        return EncodedFile(self.day, footer, _closed(self._writer, self._stream, footer))


def encode(table: Any, layout: FileLayout, footer: Footer) -> Any:
    """A pyarrow.Table to the bytes of a file, a pyarrow.Buffer."""
    stream = pa.BufferOutputStream()
    writer = pq.ParquetWriter(stream, table.schema, **layout.options_for(table))
    writer.write_table(table, row_group_size=ROW_GROUP)
    return _closed(writer, stream, footer)


def cut_below(file: EncodedFile, offset: int, layout: FileLayout) -> EncodedFile | None:
    """The file without the rows below `offset`; None when no row is left."""
    footer = file.footer
    if footer.first >= offset:
        return file
    if footer.last < offset:
        return None
    table = pq.read_table(pa.BufferReader(file.content))
    table = table.filter(pc.greater_equal(table[OFFSET], offset))
    first: int = table[OFFSET][0].as_py()
    kept = footer.source.footer(first, footer.last, table.num_rows)
    return EncodedFile(file.day, kept, encode(table, layout, kept))


def _closed(writer: Any, stream: Any, footer: Footer) -> Any:
    writer.add_key_value_metadata(footer.metadata())
    writer.close()
    return stream.getvalue()


def _size(write: Future[int]) -> int:
    return 0 if write.exception() else write.result()
