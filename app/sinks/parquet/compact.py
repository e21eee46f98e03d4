"""`iot-stream sink parquet --compact`: merge small files of a lake into large files, while the sink writes new files.

    1 finish    remove replaced files that an interrupted run left: a merged file lists the files that it replaces
    2 merge     files of one day and partition, except the files of the newest claims
    3 publish   the merged file, under a new name
    4 remove    the replaced files

A run may end at any point. Between 3 and 4 a reader finds records twice, with equal kafka_partition and kafka_offset.
The lock of a lake on S3 is not exact: two runs at once lose no record either, and one of them fails.
"""

import uuid
from collections.abc import Callable
from itertools import groupby

from msgspec import Struct

from app.errors import TransientError
from app.settings import Settings
from app.sinks.parquet.bins import Bin, bins, lake_files
from app.sinks.parquet.claim import newest_claims
from app.sinks.parquet.columns import FileLayout
from app.sinks.parquet.lake import lake_of
from app.sinks.parquet.merge import alike, merge, opened
from app.sinks.parquet.names import STAGING
from app.sinks.parquet.stored import LakeStore

_STAGED = f"{STAGING}/compaction-"


class Compaction(Struct):
    """The result of a run."""

    merged: int = 0  # files that were replaced
    made: int = 0  # merged files that replace these
    bytes_before: int = 0  # of the replaced files
    bytes_after: int = 0  # of the merged files
    repeats: int = 0  # records that were in two files, and are in one file now
    other_columns: int = 0  # groups that were skipped, as their files have different columns


Progress = Callable[[str, int], None]  # the merged file, and the number of files that it replaces


def compact(settings: Settings, progress: Progress = lambda path, files: None) -> Compaction:
    """Merge the files of the lake of `settings`; blocks until done. Raises SinkMisconfigured, and TransientError when
    the lake cannot be read or written, or another run is in progress.
    """
    store, layout = lake_of(settings)
    try:
        with store.alone() as alone:
            if not alone:
                raise TransientError(f"another compaction of {settings.parquet_dir} is under way")
            return compact_in(store, layout, settings.parquet_compact_bytes, progress)
    except OSError as error:
        raise TransientError(f"the lake cannot be compacted: {error}") from error


def compact_in(
    store: LakeStore, layout: FileLayout, most_bytes: int, progress: Progress = lambda path, files: None
) -> Compaction:
    """The same for a store; a merged file has at most `most_bytes`. Raises OSError."""
    done = Compaction()
    _finish(store)
    stored = store.list()  # before the claims: a listed file is of one of these claims, or was published for good
    pinned = {file.path for claim in newest_claims(store).values() for file in claim.files}
    for one in bins(lake_files(stored, pinned), most_bytes):
        _merge_bin(store, layout, one, done, progress)
    return done


def _merge_bin(store: LakeStore, layout: FileLayout, one: Bin, done: Compaction, progress: Progress) -> None:
    inputs = [opened(store, file.name.path) for file in one.files]
    if not alike(inputs):
        done.other_columns += 1
        return
    source = inputs[0].footer.source if inputs[0].footer else None
    assert source
    target = one.target
    replaced = [file.name.path for file in one.files if file.name.path != target.path]
    names = [path.rpartition("/")[2] for path in replaced]
    made = merge(inputs, lambda rows: source.footer(target.first, target.last, rows, names), layout, one.overlap)
    expected = sum(file.file.metadata.num_rows for file in inputs) - made.repeats
    if made.rows != expected:
        raise AssertionError(f"{target.path}: {made.rows} rows of {expected}")
    staged = f"{_STAGED}{uuid.uuid4().hex[:8]}.tmp"
    store.put(staged, made.content)
    if not store.move(staged, target.path):
        raise OSError(f"{staged} was removed meanwhile, by another compaction")
    store.remove(replaced)
    done.merged, done.made = done.merged + len(one.files), done.made + 1
    done.bytes_before += sum(file.size for file in one.files)
    done.bytes_after += len(memoryview(made.content))
    done.repeats += made.repeats
    progress(target.path, len(one.files))


def _finish(store: LakeStore) -> None:
    """Remove files that merged files replace and that still exist, and merged files that were not published."""
    store.remove([file.path for file in store.list(STAGING) if file.path.startswith(_STAGED)])
    for _, same in groupby(lake_files(store.list(), ()), lambda one: (one.name.folder, one.name.origin)):
        names = [one.name for one in same]
        paths = {name.path for name in names}
        for merged in (name for name in names if name.merged and len(paths) > 1):
            footer = opened(store, merged.path).footer
            left = {f"{merged.folder}/{one}" for one in (footer.merged if footer else ())} & paths
            store.remove(sorted(left))
            paths -= left
