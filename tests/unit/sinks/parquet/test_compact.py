"""Compaction: fewer files with the same rows, beside a running sink and with an end at any call."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from msgspec import Struct
from pyarrow import fs

from app.core.schema.schema import schema_of
from app.errors import TransientError
from app.sinks.parquet.bins import LakeFile, bins
from app.sinks.parquet.columns import ROW_GROUP, FileLayout
from app.sinks.parquet.compact import Compaction, compact, compact_in
from app.sinks.parquet.footer import footer_of
from app.sinks.parquet.lake import lake_of
from app.sinks.parquet.local_store import LocalStore
from app.sinks.parquet.names import FileName, LakePartition
from app.sinks.parquet.s3_store import S3Store
from app.sinks.record import SinkRecord
from tests.unit.sinks.parquet.lake import START, expected, files, places, record, records, rows, settings, sink
from tests.unit.sinks.parquet.stores import DiedError, HookedStore, die, nothing


async def written(root: Path, *batches: Sequence[SinkRecord], **values: Any) -> None:
    """Write each batch with a separate flush."""
    one = sink(root, **values)
    for batch in batches:
        one.add(batch)
        await one.flush()


async def small_files(root: Path) -> list[tuple[int, int]]:
    """Three files in each of two partitions, of today, the newest of which are pinned; returns their rows."""
    await written(root, *(records(at, at + 10, partition) for at in range(0, 40, 10) for partition in (0, 1)))
    return expected(range(40)) + expected(range(40), partition=1)


async def test_small_files_become_one_a_day_and_partition(tmp_path: Path) -> None:
    everything = await small_files(tmp_path)
    before = files(tmp_path)
    shown: list[tuple[str, int]] = []
    done = compact(settings(tmp_path), lambda path, of: shown.append((path, of)))
    assert (done.merged, done.made, done.repeats) == (6, 2, 0)
    assert done.bytes_before > done.bytes_after > 0
    assert places(tmp_path) == everything
    assert len(before) == 8
    assert len(files(tmp_path)) == 4, "what the newest claims are about stays as it is"
    assert [path.rpartition("-")[2] for path, of in shown if of == 3] == ["000000000029.merged.parquet"] * 2
    (merged,) = [path for path in files(tmp_path) if path.name.endswith("-0-000000000000-000000000029.merged.parquet")]
    assert [row["kafka_offset"] for row in rows(merged)] == list(range(30))
    footer = footer_of(pq.ParquetFile(merged).metadata.metadata)
    assert footer
    assert (footer.first, footer.last, footer.rows) == (0, 29, 30)
    assert list(footer.merged) == [path.name for path in before if "-0-0" in path.name][:3]
    assert compact(settings(tmp_path)) == Compaction()


async def test_the_rows_are_the_same_and_in_the_same_order(tmp_path: Path) -> None:
    await written(tmp_path, records(0, 35_000), records(35_000, 70_000), records(70_000, 70_001))
    before = [row for path in files(tmp_path)[:2] for row in rows(path)]
    assert compact(settings(tmp_path, parquet_compression="zstd")).made == 1
    (merged,) = [path for path in files(tmp_path) if ".merged." in path.name]
    assert rows(merged) == before
    assert pq.ParquetFile(merged).metadata.row_group(0).num_rows >= ROW_GROUP


async def test_the_sink_goes_on_beside_it_and_what_it_adds_is_merged_later(tmp_path: Path) -> None:
    await small_files(tmp_path)
    compact(settings(tmp_path))
    await written(tmp_path, *(records(at, at + 10) for at in range(40, 70, 10)))
    done = compact(settings(tmp_path))
    assert done.made == 1
    assert places(tmp_path) == expected(range(70)) + expected(range(40), partition=1)
    assert [path.name[-41:] for path in files(tmp_path) if ".merged." in path.name and "-0-0" in path.name] == [
        "-0-000000000000-000000000059.merged.parquet"[-41:]
    ]


async def test_records_that_stand_in_two_files_stand_in_one_afterwards(tmp_path: Path) -> None:
    """As two processes may leave such files in a bucket."""
    await written(tmp_path, records(0, 100), records(100, 150), records(150, 250), records(250, 260))
    other = tmp_path / "other"
    await written(other, records(0, 100), records(100, 200), records(200, 230), records(230, 231))
    for path in files(other):
        path.rename(tmp_path / path.relative_to(other).parent / path.name)
    repeats = len(places(tmp_path)) - 260
    assert repeats > 0
    done = compact(settings(tmp_path))
    assert places(tmp_path) == expected(range(260))
    assert done.repeats == repeats


async def test_it_may_end_at_any_call(tmp_path: Path) -> None:
    everything = await small_files(tmp_path / "lake")
    for after in (False, True):
        for at in count():
            root = tmp_path / f"{at}-{after}"
            shutil.copytree(tmp_path / "lake", root)
            lake, layout = lake_of(settings(root))
            store = HookedStore(lake, at, *((nothing, die) if after else (die, nothing)))
            with suppress(DiedError):
                compact_in(store, layout, 1 << 20)
            assert set(places(root)) == set(everything), "readers miss nothing at any time"
            compact(settings(root))
            assert places(root) == everything
            assert len(files(root)) == 4
            if store.calls <= at:
                break


async def test_files_of_other_columns_are_left_as_they_are(tmp_path: Path) -> None:
    await written(tmp_path, records(0, 10), records(10, 20), records(20, 21))
    layout = FileLayout(schema_of(_Other), "snappy", encodings=True)
    (first, second, _) = files(tmp_path)
    table = pq.ParquetFile(second).read().drop_columns("battery")
    metadata = {b"iot-stream": pq.ParquetFile(second).metadata.metadata[b"iot-stream"]}
    pq.write_table(table.replace_schema_metadata(metadata), second)
    assert layout.arrow.names == table.column_names
    assert compact(settings(tmp_path)).other_columns == 1
    assert first.exists()
    assert second.exists()
    assert places(tmp_path) == expected(range(21))


async def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    await small_files(tmp_path)
    with LocalStore(tmp_path).alone() as alone:
        assert alone
        with pytest.raises(TransientError, match="another compaction"):
            compact(settings(tmp_path))
    assert compact(settings(tmp_path)).made == 2


class _StoreWithMoves(LocalStore):
    """Calls the next of `before` before each file is renamed."""

    def __init__(self, root: Path, *before: Callable[[], None]) -> None:
        super().__init__(root)
        self._before = iter(before)

    def move(self, source: str, target: str) -> bool:
        next(self._before, nothing)()
        return super().move(source, target)


async def test_two_at_a_time_lose_nothing(tmp_path: Path) -> None:
    """As on S3, where two processes may both see their own lock."""
    everything = await small_files(tmp_path)
    layout = lake_of(settings(tmp_path))[1]

    def other() -> None:
        with suppress(DiedError):
            compact_in(_StoreWithMoves(tmp_path, nothing, die), layout, 1 << 20)

    with suppress(OSError):
        compact_in(_StoreWithMoves(tmp_path, other), layout, 1 << 20)
    assert set(places(tmp_path)) == set(everything)
    compact(settings(tmp_path))
    assert places(tmp_path) == everything
    assert not [file for file in LocalStore(tmp_path).list("_staging") if "compaction" in file.path]


async def test_a_claim_that_is_made_while_files_are_listed_is_left_alone(tmp_path: Path) -> None:
    """Its files may be published a second time, by the successor of a process that was killed."""
    await written(tmp_path, records(0, 10), records(10, 20))
    other = tmp_path.with_name("later")
    shutil.copytree(tmp_path, other)
    await written(other, records(20, 30))

    class Claiming(LocalStore):
        """A store in which the sink writes between two calls."""

        def read(self, path: str) -> bytes | None:
            content = super().read(path)
            if not any(path.name.endswith("-000000000029.parquet") for path in files(tmp_path)):
                shutil.copytree(other, tmp_path, dirs_exist_ok=True)
            return content

    compact_in(Claiming(tmp_path), lake_of(settings(tmp_path))[1], 1 << 20)
    (newest,) = [path for path in files(tmp_path) if path.name.endswith("-000000000029.parquet")]
    assert newest.name.endswith("-000000000020-000000000029.parquet")


def test_the_lock_of_a_bucket_is_removed_by_its_owner_alone(tmp_path: Path) -> None:
    """A lock that is too old is another process's: the first process may only be slow."""
    store = S3Store(fs.LocalFileSystem(), str(tmp_path))
    with store.alone() as alone:
        assert alone
        with store.alone() as second:
            assert not second
    assert store.read("_compaction.lock") is None
    with store.alone():
        store.put("_compaction.lock", b"1.5 another")
    assert store.read("_compaction.lock") == b"1.5 another"
    with store.alone() as alone:
        assert alone, "the lock is of 1970"


async def test_a_file_that_is_broken_ends_it_and_is_named(tmp_path: Path) -> None:
    await small_files(tmp_path)
    broken = files(tmp_path)[1]
    broken.write_bytes(b"PAR1")
    with pytest.raises(TransientError, match=broken.name):
        compact(settings(tmp_path))
    assert broken.exists()


async def test_each_day_has_files_of_its_own(tmp_path: Path) -> None:
    days = [
        [record(offset, time=START - timedelta(days=offset % 3)) for offset in range(at, at + 9)] for at in (0, 9, 18)
    ]
    await written(tmp_path, *days)
    assert compact(settings(tmp_path)).made == 3
    assert places(tmp_path) == expected(range(27))
    assert len(files(tmp_path)) == 6


def lake_file(first: int, last: int, size: int, partition: int = 0) -> LakeFile:
    """A file of this size, bytes."""
    return LakeFile(FileName("day=2026-11-30", LakePartition("t", "00000000", partition), first, last, False), size)


def sizes(*given: LakeFile, most: int = 100) -> list[list[int]]:
    """The sizes of the files of each group."""
    return [[file.size for file in one.files] for one in bins(given, most)]


def test_groups_are_as_large_as_they_may_be_and_large_files_stay() -> None:
    chain = [lake_file(at * 10, at * 10 + 9, size) for at, size in enumerate([10, 20, 30, 45, 5, 90, 5, 5, 60, 5])]
    assert sizes(*chain) == [[10, 20, 30], [45, 5], [5, 5]]
    assert sizes(lake_file(0, 9, 10), lake_file(0, 9, 10, partition=1)) == []
    assert sizes(lake_file(0, 9, 90), lake_file(5, 12, 90), lake_file(13, 20, 5)) == [[90, 90]]
    assert [one.overlap for one in bins([lake_file(0, 99, 1), lake_file(5, 9, 1), lake_file(50, 60, 1)], 9)] == [True]
    assert [one.overlap for one in bins([lake_file(0, 4, 1), lake_file(5, 9, 1)], 9)] == [False]


class _Other(Struct):
    temperature: float | None = None
