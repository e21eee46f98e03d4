"""The contract of all sinks, on directories and on a bucket of an S3 server."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from app.settings import Settings
from app.sinks.parquet.lake import lake_of
from app.sinks.parquet.names import parsed
from app.sinks.parquet.sink import ParquetSink
from app.sinks.port import Sink
from app.sinks.record import SinkRecord
from tests.contract.sinks.suite import SinkContract
from tests.s3 import S3Server, s3_server, s3_settings
from tests.unit.sinks.parquet.lake import named


class InLake:
    """A lake; `server` is the server of its bucket, or None for a directory."""

    tells_repeats, keeps_offsets = True, True

    def __init__(self, settings: Settings, server: S3Server | None) -> None:
        self._settings, self._server = settings, server

    def sink(self) -> Sink:
        return ParquetSink("parquet", self._settings, named())

    async def times(self, records: Sequence[SinkRecord]) -> list[int]:
        store, found = lake_of(self._settings)[0], Counter[tuple[int, int, str]]()
        for file in store.list():
            if parsed(file.path):
                table = pq.ParquetFile(store.input(file.path)).read(["kafka_partition", "kafka_offset", "device_id"])
                found.update(zip(*(column.to_pylist() for column in table.columns), strict=True))
        return [found[one.partition, one.offset, one.device_id] for one in records]

    async def away(self) -> None:
        if self._server:
            self._server.status = 503
        else:
            block(Path(self._settings.parquet_dir))

    async def back(self) -> None:
        if self._server:
            self._server.status = None
        else:
            unblock(Path(self._settings.parquet_dir))

    def poison(self, record: SinkRecord) -> SinkRecord | None:
        """Text that is not Unicode. A worker takes no such text, so this stands for an unforeseen value."""
        reading = msgspec.structs.replace(record.reading, extra_json="\ud800")
        return msgspec.structs.replace(record, reading=reading)


def block(lake: Path) -> None:
    """Replace the staging directory by a link to nowhere, as to a disk that is not mounted: not even root can write
    below it.
    """
    lake.mkdir(exist_ok=True)
    if (staging := lake / "_staging").is_dir():
        staging.rename(lake / "_away")
    staging.symlink_to("nowhere/mounted")


def unblock(lake: Path) -> None:
    """Undo `block`."""
    (lake / "_staging").unlink()
    if (lake / "_away").is_dir():
        (lake / "_away").rename(lake / "_staging")


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["directory", "bucket"])
def destination(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> InLake:
    if request.param == "directory":
        return InLake(Settings(parquet_dir=str(tmp_path / "lake"), parquet_compression="zstd"), None)
    server: S3Server = request.getfixturevalue("s3")
    return InLake(Settings(**s3_settings(server, unique)), server)


class TestParquet(SinkContract):
    """The suite, twice."""
