"""Several files of one day and partition merged into one: row groups in order, each record once."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from app.sinks.parquet.columns import OFFSET, ROW_GROUP, FileLayout
from app.sinks.parquet.footer import Footer, footer_of
from app.sinks.parquet.stored import LakeStore


class Merged(Struct, frozen=True):
    """A merged file."""

    content: Any  # pyarrow.Buffer
    rows: int
    repeats: int  # records that were in several files, and are in the merged file once


class LakeInput(Struct, frozen=True):
    """A file to merge."""

    file: Any  # pyarrow.parquet.ParquetFile
    footer: Footer | None


def opened(store: LakeStore, path: str) -> LakeInput:
    """A file of the lake with its footer. Raises OSError, also for a file that is not Parquet."""
    try:
        file = pq.ParquetFile(store.input(path))
    except pa.ArrowInvalid as error:
        raise OSError(f"{path}: {error}") from error
    return LakeInput(file, footer_of(file.metadata.metadata))


def alike(inputs: Sequence[LakeInput]) -> bool:
    """Whether all files have the same columns, and a footer."""
    first = inputs[0].file.schema_arrow.remove_metadata()
    return all(one.footer is not None and one.file.schema_arrow.remove_metadata().equals(first) for one in inputs)


def merge(inputs: Sequence[LakeInput], footer: Callable[[int], Footer], layout: FileLayout, overlap: bool) -> Merged:
    """Merge files with the same columns. `footer` makes the footer for a number of rows; with `overlap` a record in
    several files is taken from the first.
    """
    stream, seen, waiting, rows, repeats = pa.BufferOutputStream(), list[Any](), list[Any](), 0, 0
    options = layout.options_for(inputs[0].file.read_row_group(0))
    writer = pq.ParquetWriter(stream, inputs[0].file.schema_arrow.remove_metadata(), **options)
    for one in inputs:
        found: list[Any] = []
        for at in range(one.file.num_row_groups):
            table = one.file.read_row_group(at).replace_schema_metadata(None)
            if overlap:
                found.append(table[OFFSET].combine_chunks())
                kept = table.filter(pc.invert(pc.is_in(table[OFFSET], pa.chunked_array(seen, pa.int64()))))
                repeats += table.num_rows - kept.num_rows
                table = kept
            waiting.append(table)
            rows += table.num_rows
            if sum(part.num_rows for part in waiting) >= ROW_GROUP:
                _write(writer, waiting)
        seen += found
    _write(writer, waiting)
    writer.add_key_value_metadata(footer(rows).metadata())
    writer.close()
    return Merged(stream.getvalue(), rows, repeats)


def _write(writer: Any, waiting: list[Any]) -> None:
    if waiting:
        table = pa.concat_tables(waiting)
        writer.write_table(table, row_group_size=max(1, table.num_rows))
        waiting.clear()
