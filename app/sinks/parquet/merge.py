"""Several files of one day and partition to one: their row groups one after another, each record once."""

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
    """One file instead of several."""

    content: Any  # pyarrow.Buffer
    rows: int
    repeats: int  # records that were in more than one of them, and are in it once


class LakeInput(Struct, frozen=True):
    """A file that is merged."""

    file: Any  # pyarrow.parquet.ParquetFile
    footer: Footer | None


def opened(store: LakeStore, path: str) -> LakeInput:
    """A file of the lake, its footer read. Raises OSError, for what is no Parquet file too."""
    try:
        file = pq.ParquetFile(store.input(path))
    except pa.ArrowInvalid as error:
        raise OSError(f"{path}: {error}") from error
    return LakeInput(file, footer_of(file.metadata.metadata))


def alike(inputs: Sequence[LakeInput]) -> bool:
    """Whether their columns are the same, and every one says where its rows are from."""
    first = inputs[0].file.schema_arrow.remove_metadata()
    return all(one.footer is not None and one.file.schema_arrow.remove_metadata().equals(first) for one in inputs)


def merge(inputs: Sequence[LakeInput], footer: Callable[[int], Footer], layout: FileLayout, overlap: bool) -> Merged:
    """Files whose columns are the same to one. `footer` makes that of so many rows; with `overlap` a record that is in
    several is taken from the first.
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
