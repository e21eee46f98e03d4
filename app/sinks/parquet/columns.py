"""Readings to columns: the configured schema in, Arrow batches and the options for writing a file out."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.core.model.records import Reading
from app.core.model.times import EPOCH
from app.core.schema.codegen import columns_maker
from app.core.schema.column_types import EXTRA, KEY, ColumnType
from app.core.schema.schema import Schema
from app.sinks.port import SinkMisconfigured
from app.sinks.record import SinkRecord

DAY = "day"  # the name of the directories of a lake: day=2026-11-30
PARTITION, OFFSET = "kafka_partition", "kafka_offset"
TIME, SEQUENCE = KEY[0], KEY[3]
FEW = 8  # rows per distinct value, for a dictionary
ROW_GROUP = 1 << 16  # rows
MICROS = pa.timestamp("us", tz="UTC")
_INTEGERS = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
_OTHERS = {float: pa.float64(), bool: pa.bool_(), str: pa.string(), Decimal: pa.string()}


class FileLayout:
    """The columns of every file of a sink, those of raw_telemetry and then a row's origin; and the file's encoding."""

    def __init__(self, schema: Schema, compression: str, encodings: bool, *, origin: bool = True) -> None:
        """`compression` is snappy, zstd, lz4 or none; `encodings` are used only with zstd, as they make files larger
        with the other codecs. Without `origin` the files have the columns of raw_telemetry alone. Raises
        SinkMisconfigured for a schema with a column named as a column of the layout.
        """
        if taken := sorted({DAY, PARTITION, OFFSET} & set(schema.names)):
            raise SinkMisconfigured(
                f"IOT_SCHEMA_STRUCT: files have a column {taken[0]} of their own; name it otherwise"
            )
        self.arrow = pa.schema(
            [
                ("time", MICROS), ("user_id", pa.string()), ("device_id", pa.string()), ("sequence_id", pa.int64()),
                *((column.name, _arrow_type(column.type)) for column in schema.columns),
                (EXTRA, pa.string()), *([(PARTITION, pa.int32()), (OFFSET, pa.int64())] if origin else []),
            ]
        )  # fmt: skip
        names = (*KEY, *(column.name for column in schema.columns), "extra_json")
        self._taken: Callable[[Sequence[Any]], tuple[list[Any], ...]] = columns_maker(names)
        self._types: list[Any] = [field.type for field in self.arrow]
        self._texts = frozenset(
            at for at, column in enumerate(schema.columns, len(KEY)) if column.type.python is Decimal
        )
        self._compression, self._encodings = compression, encodings and compression == "zstd"

    def options_for(self, table: Any) -> dict[str, Any]:
        """Options of pyarrow's ParquetWriter for a file that begins with the rows of a pyarrow.Table.

        Texts, and numbers with few distinct values, as measurements often have, get a dictionary.
        """
        names = [field.name for field in table.schema if _has_few(field, table, self._encodings)]
        options: dict[str, Any] = {"compression": self._compression, "version": "2.6", "use_dictionary": names}
        if not self._encodings:
            return options
        encoded = {field.name: _encoding(field.type) for field in table.schema if field.name not in names}
        return options | {"column_encoding": {name: encoding for name, encoding in encoded.items() if encoding}}

    def batch(self, records: Sequence[SinkRecord]) -> Any:
        """A pyarrow.RecordBatch of records of one partition, each with a reading. Raises pyarrow.ArrowException,
        ValueError, TypeError or OverflowError when a value does not fit its column.
        """
        columns = self.columns([record.reading for record in records])
        columns.append(pa.repeat(pa.scalar(records[0].partition, pa.int32()), len(records)))
        columns.append(pa.array([record.offset for record in records], pa.int64()))
        return pa.RecordBatch.from_arrays(columns, schema=self.arrow)

    def columns(self, readings: Sequence[Reading]) -> list[Any]:
        """The columns of raw_telemetry as pyarrow.Arrays, without those of the origin. Raises as `batch` does."""
        values = self._taken(readings)
        since: list[Any] = [time - EPOCH for time in values[0]]  # five times as quick as datetimes
        times = pa.array(since, pa.duration("us")).cast(pa.int64()).view(MICROS)
        columns: list[Any] = [times]
        for at, column in enumerate(values[1:], 1):
            exact = [None if value is None else str(value) for value in column] if at in self._texts else column
            columns.append(pa.array(exact, self._types[at]))
        return columns


def _arrow_type(column: ColumnType) -> Any:
    """The Arrow type of a column. A Decimal becomes its exact text, as its number of digits has no limit in Parquet."""
    return _INTEGERS[column.bits] if column.bits else _OTHERS[column.python]


def _encoding(arrow: Any) -> str | None:
    """The encoding of a column of numbers with many distinct values; None: the default encoding."""
    if pa.types.is_integer(arrow) or pa.types.is_timestamp(arrow):
        return "DELTA_BINARY_PACKED"
    return "BYTE_STREAM_SPLIT" if pa.types.is_floating(arrow) else None


def _has_few(field: Any, table: Any, encodings: bool) -> bool:
    """Whether a dictionary makes the column smaller than its encoding would."""
    if pa.types.is_string(field.type) or field.name == PARTITION:
        return True
    if field.name in (TIME, OFFSET) or pa.types.is_boolean(field.type) or (encodings and field.name == SEQUENCE):
        return False
    distinct: int = pc.count_distinct(table[field.name]).as_py()
    rows: int = table.num_rows
    return distinct * FEW <= rows
