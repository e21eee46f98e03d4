"""Readings into one Parquet file, in the columns and encodings of the Parquet sink; needs pyarrow."""

from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from app.history.exporting.readings_file import ReadingsAt
from app.settings import Settings
from app.sinks.parquet.columns import ROW_GROUP, FileLayout

GROUP_BYTES = 64 << 20  # of Arrow in a row group at most: rows of large payloads are written sooner


def layout_of(settings: Settings, *, origin: bool) -> FileLayout:
    """The columns of the settings. Raises SettingsError for a schema with a column named as one of the layout."""
    compression, encodings = settings.parquet_compression, settings.parquet_encodings
    return FileLayout(settings.telemetry_schema, compression, encodings, origin=origin)


class ParquetReadings:
    """Row groups as they fill up; a file without a row has the columns all the same."""

    def __init__(self, file: BinaryIO, layout: FileLayout) -> None:
        self._file, self._layout = file, layout
        self._waiting: list[Any] = []
        self._rows = self._bytes = 0
        self._writer: Any = None

    def write(self, found: ReadingsAt) -> None:
        """As in ReadingsFile."""
        if not found.readings:
            return
        columns = self._layout.columns(found.readings)
        if found.offsets is not None:
            columns.append(pa.repeat(pa.scalar(found.partition, pa.int32()), len(found.readings)))
            columns.append(pa.array(found.offsets, pa.int64()))
        batch = pa.RecordBatch.from_arrays(columns, schema=self._layout.arrow)
        self._waiting.append(batch)
        self._rows, self._bytes = self._rows + batch.num_rows, self._bytes + batch.nbytes
        if self._rows >= ROW_GROUP or self._bytes >= GROUP_BYTES:
            self._hand_over()

    def finish(self) -> None:
        """As in ReadingsFile."""
        if self._waiting or self._writer is None:
            self._hand_over()
        self._writer.close()

    def abandon(self) -> None:
        """As in ReadingsFile."""
        if self._writer is not None:
            self._writer.is_open = False  # else it writes a footer when it is collected, into a closed file

    def _hand_over(self) -> None:
        table = pa.Table.from_batches(self._waiting, self._layout.arrow)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema, **self._layout.options_for(table))
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._waiting, self._rows, self._bytes = [], 0, 0
