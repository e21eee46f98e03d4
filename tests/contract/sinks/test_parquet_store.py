"""The stores of a lake: the same tests for a directory and for a bucket of an S3 server."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from app.settings import Settings
from app.sinks.parquet.lake import lake_of
from app.sinks.parquet.s3_store import s3_store
from app.sinks.parquet.stored import LakeStore, StoredFile
from app.sinks.port import SinkMisconfigured
from tests.s3 import BUCKET, S3Server, s3_server, s3_settings


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["directory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LakeStore:
    if request.param == "directory":
        return lake_of(Settings(parquet_dir=str(tmp_path / "lake")))[0]
    server: S3Server = request.getfixturevalue("s3")
    return lake_of(Settings(**s3_settings(server, tmp_path.name)))[0]


def test_a_whole_file_is_written_replaced_and_read(store: LakeStore) -> None:
    store.check()
    store.put("_staging/a/b.tmp", pa.py_buffer(b"first and long"))
    store.put("_staging/a/b.tmp", b"second")
    assert store.read("_staging/a/b.tmp") == b"second"
    assert store.read("_staging/a/c.tmp") is None
    large = bytes(range(256)) * (12 << 12)  # several parts of an upload
    store.put("large", pa.py_buffer(large))
    with store.input("large") as file:
        assert file.size() == len(large)
        file.seek(len(large) - 256)
        assert file.read() == large[:256]


def test_a_name_is_given_once(store: LakeStore) -> None:
    assert store.put_new("_claims/t/0/1.json", b"mine")
    assert not store.put_new("_claims/t/0/1.json", b"theirs")
    assert store.read("_claims/t/0/1.json") == b"mine"
    assert [file.path for file in store.list("_claims")] == ["_claims/t/0/1.json"], "nothing else is left there"


def test_a_move_names_a_file_and_says_when_there_is_none(store: LakeStore) -> None:
    store.put("_staging/x.tmp", b"rows")
    store.put("day=2026-11-30/x.parquet", b"older")
    assert store.move("_staging/x.tmp", "day=2026-11-30/x.parquet")
    assert not store.move("_staging/x.tmp", "day=2026-11-30/x.parquet")
    assert store.read("day=2026-11-30/x.parquet") == b"rows"
    assert store.read("_staging/x.tmp") is None


def test_what_is_there_is_listed_by_path(store: LakeStore) -> None:
    assert store.list() == []
    assert store.list("_claims/t") == []
    for path in ("day=2/b", "day=1/c", "_claims/t/10", "_claims/t/9"):
        store.put(path, path.encode())
    assert store.list() == [
        StoredFile(path, len(path)) for path in ("_claims/t/10", "_claims/t/9", "day=1/c", "day=2/b")
    ]
    assert [file.path for file in store.list("_claims")] == ["_claims/t/10", "_claims/t/9"]
    store.remove(["day=2/b", "day=2/none"])
    assert [file.path for file in store.list("day=2")] == []


def test_one_at_a_time_has_it_alone(store: LakeStore) -> None:
    for _ in range(2):
        with store.alone() as alone, store.alone() as second:
            assert (alone, second) == (True, False)


def test_a_bucket_that_answers_late_or_not_is_an_oserror(s3: S3Server) -> None:
    store = s3_store(Settings(**s3_settings(s3, "late")))
    s3.status = 503
    try:
        for call in (
            lambda: store.put("a", b"1"),
            lambda: store.read("a"),
            lambda: store.list(),
            lambda: store.move("a", "b"),
            lambda: store.put_new("a", b"1"),
            store.check,
        ):
            with pytest.raises(OSError, match=r"503|UNAVAILABLE"):
                call()
    finally:
        s3.status = None
    store.check()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"parquet_dir": "s3://"}, "name a bucket"),
        ({"parquet_s3_secret_key": None}, "go together"),
        ({"parquet_dir": "s3://none-of-that-name/x"}, "IOT_PARQUET_DIR"),
    ],
)
def test_what_can_never_be_a_lake_is_said_with_the_setting(s3: S3Server, values: dict[str, str], words: str) -> None:
    with pytest.raises(SinkMisconfigured, match=words):
        lake_of(Settings(**{**s3_settings(s3, "x"), **values}))[0].check()


def test_the_secret_is_shown_nowhere(s3: S3Server) -> None:
    made = Settings(**s3_settings(s3, "x"))
    assert "testtest" not in repr(made)
    assert BUCKET in made.parquet_dir
