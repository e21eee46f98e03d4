"""Claims: a process that ends or pauses at any call to the store, and its successor."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from app.sinks.parquet.claim import KEPT, Chain
from app.sinks.parquet.columns import FileLayout
from app.sinks.parquet.footer import FileSource
from app.sinks.parquet.lake import own
from app.sinks.parquet.local_store import LocalStore
from app.sinks.parquet.names import LakePartition, tag_of
from app.sinks.parquet.partition_rows import PartitionRows
from app.sinks.parquet.stored import LakeStore
from app.sinks.parquet.writing import RowWriter
from app.sinks.record import SinkRecord
from tests import DEFAULT
from tests.unit.sinks.parquet.lake import START, expected, places, record
from tests.unit.sinks.parquet.stores import DiedError, HookedStore, die, nothing

LAYOUT = FileLayout(DEFAULT, "zstd", encodings=True)
ORIGIN = LakePartition("iot-stream", tag_of("t"), 0)
LAST = 160  # offset after the last record


def two_days(first: int, after: int) -> list[SinkRecord]:
    """Records whose readings are of two days in turn: two files per claim."""
    return [record(offset, time=START.replace(day=29 + offset % 2)) for offset in range(first, after)]


class Writing:
    """A process that writes the topic's records in several flushes."""

    def __init__(self, store: LakeStore, encoder: ThreadPoolExecutor) -> None:
        self._store, self._encoder = store, encoder
        self.chain = Chain(store, ORIGIN, "t")
        self.at = self.chain.load()  # earlier records are read; they need no claim if they were in files already

    def write(self, after: int, step: int = 80) -> None:
        """Write what is from the end of the chain up to `after`, as one that has read it before."""
        while (start := max(self.at, self.chain.position or 0)) < after:
            until = min(start + step, after)
            rows = PartitionRows(LAYOUT, self._encoder)
            rows.add(two_days(start, until))
            closed = rows.close(FileSource("iot-stream", "t", 0, "Telemetry", "parquet"))
            writer = RowWriter(self._store, self.chain, LAYOUT)
            writer.write([file.result() for file in closed.files], closed.until)
            self.at = until


def calls_of(tmp_path: Path, encoder: ThreadPoolExecutor) -> int:
    """The number of calls to the store for writing all records."""
    store = HookedStore(LocalStore(tmp_path / "counted"), -1)
    Writing(store, encoder).write(LAST)
    return store.calls


def everywhere(tmp_path: Path, encoder: ThreadPoolExecutor, hook: Callable[[Path], None], after: bool) -> None:
    """Write all with `hook` at each call in turn, before or after it; then a third process finishes, and all is there
    once.
    """
    for at in range(calls_of(tmp_path, encoder)):
        root = tmp_path / f"lake-{at}-{after}"
        call = lambda root=root: hook(root)  # noqa: E731
        store = HookedStore(LocalStore(root), at, *((nothing, call) if after else (call, nothing)))
        with suppress(DiedError):
            Writing(store, encoder).write(LAST)
        last = Writing(LocalStore(root), encoder)
        last.write(LAST)
        assert places(root) == expected(range(LAST)), f"call {at}"
        assert last.chain.load() == LAST
        assert not list((root / "_staging").rglob("*.tmp")), f"call {at}: staged files are left"


@pytest.fixture(scope="module")
def encoder() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


@pytest.mark.parametrize("after", [False, True])
def test_a_process_may_end_at_any_call(tmp_path: Path, encoder: ThreadPoolExecutor, after: bool) -> None:
    everywhere(tmp_path, encoder, lambda root: die(), after)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("upto", [50, 100])
def test_a_process_may_stand_still_at_any_call_while_another_goes_on(
    tmp_path: Path, encoder: ThreadPoolExecutor, after: bool, upto: int
) -> None:
    """The other one writes other ranges than the first would: up to `upto`, 50 records at a time."""
    everywhere(tmp_path, encoder, lambda root: Writing(LocalStore(root), encoder).write(upto, 50), after)


def test_a_process_paused_for_many_claims_writes_no_rows(tmp_path: Path, encoder: ThreadPoolExecutor) -> None:
    """The claim that it would collide with has been removed as an old claim."""
    late = Writing(LocalStore(tmp_path), encoder)
    Writing(LocalStore(tmp_path), encoder).write(100, 10)
    names = sorted((tmp_path / ORIGIN.claims).iterdir())
    assert len(names) == KEPT
    late.write(LAST, 90)
    assert places(tmp_path) == expected(range(LAST))
    assert Chain(LocalStore(tmp_path), ORIGIN, "t").load() == LAST


def test_files_alone_say_where_to_go_on(tmp_path: Path, encoder: ThreadPoolExecutor) -> None:
    Writing(LocalStore(tmp_path), encoder).write(100)
    shutil.rmtree(tmp_path / "_claims")
    own(LocalStore(tmp_path), "parquet")
    assert Chain(LocalStore(tmp_path), ORIGIN, "t").load() == 100
    assert Chain(LocalStore(tmp_path), ORIGIN._replace(partition=1), "t").load() == 0


def test_each_partition_of_a_lake_without_claims_resumes_after_its_files(
    tmp_path: Path, encoder: ThreadPoolExecutor
) -> None:
    """Also when another partition has written since, and after an end at any call."""
    Writing(LocalStore(tmp_path / "lake"), encoder).write(100)
    for path in (tmp_path / "lake").glob("day=*/*.parquet"):
        shutil.copy(path, path.with_name(path.name.replace(f"-{ORIGIN.tag}-0-", f"-{ORIGIN.tag}-1-")))
    shutil.rmtree(tmp_path / "lake" / "_claims")
    for at in count():
        root = tmp_path / f"{at}"
        shutil.copytree(tmp_path / "lake", root)
        store = HookedStore(LocalStore(root), at, die)
        with suppress(DiedError):
            own(store, "parquet")
        own(LocalStore(root), "parquet")
        Writing(LocalStore(root), encoder).write(LAST)
        assert Chain(LocalStore(root), ORIGIN._replace(partition=1), "t").load() == 100
        if store.calls <= at:
            break


def test_a_claim_that_cannot_be_read_is_no_new_beginning(tmp_path: Path, encoder: ThreadPoolExecutor) -> None:
    Writing(LocalStore(tmp_path), encoder).write(100)
    newest = max((tmp_path / ORIGIN.claims).iterdir())
    newest.write_bytes(b"")
    with pytest.raises(OSError, match="is no claim"):
        Chain(LocalStore(tmp_path), ORIGIN, "t").load()


def test_every_failure_is_tried_again_where_it_was(tmp_path: Path, encoder: ThreadPoolExecutor) -> None:
    """A disk that refuses each call once."""

    def fail() -> None:
        raise OSError("full")

    for after in (False, True):
        for at in count():
            root = tmp_path / f"{at}-{after}"
            store = HookedStore(LocalStore(root), at, *((nothing, fail) if after else (fail, nothing)))
            chain = Chain(store, ORIGIN, "t")
            rows = PartitionRows(LAYOUT, encoder)
            rows.add(two_days(0, 50))
            closed = rows.close(FileSource("iot-stream", "t", 0, "Telemetry", "parquet"))
            writer = RowWriter(store, chain, LAYOUT)
            encoded = [file.result() for file in closed.files]
            with suppress(OSError):
                writer.write(encoded, closed.until)
            writer.write(encoded, closed.until)
            assert places(root) == expected(range(50))
            if store.calls <= at:
                break


def test_a_truncated_log_has_a_separate_chain(tmp_path: Path, encoder: ThreadPoolExecutor) -> None:
    """For any number of processes that detect the truncation: existing rows are left out, other rows are written."""
    Writing(LocalStore(tmp_path), encoder).write(100)
    first, second, known = (Chain(LocalStore(tmp_path), ORIGIN, "t") for _ in range(3))
    assert known.load() == 100
    first.cut()
    second.cut()  # would cut the new chain, which has no claims yet
    assert (first.position, first.doubt, first.earlier) == (0, 100, [ORIGIN])
    known.cut()
    assert first.origin == second.origin == known.origin == ORIGIN.after_cut != ORIGIN
    anew = Writing(LocalStore(tmp_path), encoder)
    assert anew.chain.position == 0
    anew.write(LAST, 70)  # the former log, and more
    assert places(tmp_path) == expected(range(LAST))
    assert Chain(LocalStore(tmp_path), ORIGIN, "t").load() == LAST
    first.cut()
    assert first.doubt == LAST
    assert first.earlier == [ORIGIN, ORIGIN.after_cut]
    Writing(LocalStore(tmp_path), encoder).write(LAST + 20, 90)
    assert places(tmp_path) == expected(range(LAST + 20))


@pytest.mark.parametrize("after", [False, True])
def test_a_process_may_end_at_any_call_while_a_truncated_log_is_read(
    tmp_path: Path, encoder: ThreadPoolExecutor, after: bool
) -> None:
    def anew(store: LakeStore) -> None:
        chain = Chain(store, ORIGIN, "t")
        if not chain.load() or not chain.earlier:
            chain.cut()
        Writing(store, encoder).write(LAST)

    for at in count():
        root = tmp_path / f"lake-{at}-{after}"
        Writing(LocalStore(root), encoder).write(100)
        store = HookedStore(LocalStore(root), at, *((nothing, die) if after else (die, nothing)))
        with suppress(DiedError):
            anew(store)
        anew(LocalStore(root))
        assert places(root) == expected(range(LAST)), f"call {at}"
        if store.calls <= at:
            break
