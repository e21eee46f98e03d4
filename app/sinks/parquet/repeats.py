"""Rows of a truncated log that is read from its start -> the rows that are not in the files of the log before.

The remaining part of the log has the same records under the same offsets as the files. After that part, other records
have offsets that the files have for records which Kafka has lost. So an offset is not enough to detect a repeat: a row
is left out when the files have the same reading under the same offset.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.core.schema.column_types import KEY
from app.sinks.parquet.claim import Chain
from app.sinks.parquet.columns import OFFSET, FileLayout
from app.sinks.parquet.day_file import EncodedFile, encode
from app.sinks.parquet.merge import opened
from app.sinks.parquet.names import LakePartition, folder_of, parsed
from app.sinks.parquet.stored import LakeStore


def without_repeats(file: EncodedFile, store: LakeStore, chain: Chain, layout: FileLayout) -> EncodedFile | None:
    """The file without rows that files of `chain.earlier` have; None when no row is left. Raises OSError."""
    if file.footer.first >= chain.doubt:
        return file
    table = pq.read_table(pa.BufferReader(file.content))
    for origin in chain.earlier:
        known = _known(store, file, origin)
        if known is not None and table.num_rows:
            table = table.filter(pc.invert(_is_there(table, known)))
    if table.num_rows == file.footer.rows:
        return file
    if not table.num_rows:
        return None
    offsets = table[OFFSET]
    kept = file.footer.source.footer(offsets[0].as_py(), offsets[-1].as_py(), table.num_rows)
    return EncodedFile(file.day, kept, encode(table, layout, kept))


def _known(store: LakeStore, file: EncodedFile, origin: LakePartition) -> Any:
    """Offsets and keys of the rows in files of the same day with overlapping offsets; None without such files."""
    first, last = file.footer.first, file.footer.last
    named = [(parsed(one.path), one.path) for one in store.list(folder_of(file.day))]
    paths = [
        path for name, path in named if name and name.origin == origin and name.first <= last and name.last >= first
    ]
    found = [opened(store, path).file.read([OFFSET, *KEY]).replace_schema_metadata(None) for path in paths]
    return pa.concat_tables(found) if found else None


def _is_there(table: Any, known: Any) -> Any:
    """For each row of `table`, whether `known` has the same reading under the same offset."""
    at = pc.index_in(table[OFFSET], value_set=known[OFFSET]).combine_chunks()
    there = known.take(at)
    same = pc.is_valid(at)
    for name in KEY:
        same = pc.and_(same, pc.fill_null(pc.equal(table[name], there[name]), False))
    return same
