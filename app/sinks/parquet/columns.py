"""Records to columns: the schema in force in, Arrow batches and the options that a file is written with out."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from app.core.model.times import EPOCH
from app.core.schema.codegen import columns_maker
from app.core.schema.column_types import EXTRA, KEY, ColumnType
from app.core.schema.schema import Schema
from app.sinks.port import SinkMisconfigured
from app.sinks.record import SinkRecord

DAY = "day"  # the name of the directories of a lake: day=2026-11-30
PARTITION, OFFSET = "kafka_partition", "kafka_offset"
ROW_GROUP = 1 << 16  # rows
MICROS = pa.timestamp("us", tz="UTC")
_INTEGERS = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
_OTHERS = {float: pa.float64(), bool: pa.bool_(), str: pa.string(), Decimal: pa.string()}


class FileLayout:
    """The columns of every file of a sink, those of raw_telemetry and then where a row came from; how it is encoded."""

    def __init__(self, schema: Schema, compression: str, encodings: bool) -> None:
        """`compression` is snappy, zstd, lz4 or none; `encodings` are used with zstd alone, as with others they make
        files larger. Raises SinkMisconfigured for a schema that has a column of our own names.
        """
        if taken := sorted({DAY, PARTITION, OFFSET} & set(schema.names)):
            raise SinkMisconfigured(
                f"IOT_SCHEMA_STRUCT: files have a column {taken[0]} of their own; name it otherwise"
            )
        self.arrow = pa.schema(
            [
                ("time", MICROS), ("user_id", pa.string()), ("device_id", pa.string()), ("sequence_id", pa.int64()),
                *((column.name, _arrow_type(column.type)) for column in schema.columns),
                (EXTRA, pa.string()), (PARTITION, pa.int32()), (OFFSET, pa.int64()),
            ]
        )  # fmt: skip
        names = (*KEY, *(column.name for column in schema.columns), "extra_json")
        self._taken: Callable[[Sequence[Any]], tuple[list[Any], ...]] = columns_maker(names)
        self._types: list[Any] = [field.type for field in self.arrow]
        self._texts = frozenset(
            at for at, column in enumerate(schema.columns, len(KEY)) if column.type.python is Decimal
        )
        self._compression, self._encodings = compression, encodings and compression == "zstd"
        self.options = self.options_for(self.arrow)

    def options_for(self, arrow: Any) -> dict[str, Any]:
        """How columns of a pyarrow.Schema are written: options of pyarrow.parquet.ParquetWriter."""
        return _options(arrow, self._compression, self._encodings)

    def batch(self, records: Sequence[SinkRecord]) -> Any:
        """A pyarrow.RecordBatch of records of one partition, each with a reading. Raises pyarrow.ArrowException,
        ValueError, TypeError or OverflowError when a value of one of them does not fit.
        """
        values = self._taken([record.reading for record in records])
        since: list[Any] = [time - EPOCH for time in values[0]]  # five times as quick as datetimes
        times = pa.array(since, pa.duration("us")).cast(pa.int64()).view(MICROS)
        columns = [times]
        for at, column in enumerate(values[1:], 1):
            exact = [None if value is None else str(value) for value in column] if at in self._texts else column
            columns.append(pa.array(exact, self._types[at]))
        columns.append(pa.repeat(pa.scalar(records[0].partition, pa.int32()), len(records)))
        columns.append(pa.array([record.offset for record in records], pa.int64()))
        return pa.RecordBatch.from_arrays(columns, schema=self.arrow)


def _arrow_type(column: ColumnType) -> Any:
    """Of a Decimal the exact text: it has as many digits as its sender likes, which no decimal of Parquet has."""
    return _INTEGERS[column.bits] if column.bits else _OTHERS[column.python]


def _options(arrow: Any, compression: str, encodings: bool) -> dict[str, Any]:
    texts = [field.name for field in arrow if pa.types.is_string(field.type)]
    options: dict[str, Any] = {"compression": compression, "version": "2.6"}
    if not encodings:
        return options | {"use_dictionary": [*texts, PARTITION]}
    encoded = {}
    for field in arrow:
        if pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type):
            encoded[field.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_floating(field.type):
            encoded[field.name] = "BYTE_STREAM_SPLIT"
    return options | {"use_dictionary": texts, "column_encoding": encoded}
