"""Further destinations of Parquet files: a bucket whose server refuses requests or is slow, and a small disk."""

import asyncio
import contextlib
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from tests.s3 import BUCKET, KEY, SECRET, S3Server, s3_settings
from tools.faults.sinks.found import Audit, FoundReading, Times
from tools.faults.sinks.parquet_files import COLUMNS, ParquetFiles
from tools.faults.stream import Stream

DISK = 24 << 20  # bytes
REFUSES, SLOW = "refuses", "slow"
SLOW_SECONDS = 2.0  # per request


class S3Files:
    """A bucket of Parquet files."""

    sink = "parquet"

    def __init__(self, server: S3Server, prefix: str) -> None:
        self._server, self._prefix = server, prefix

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the sink that writes there."""
        return {**s3_settings(self._server, self._prefix), "parquet_rotate_seconds": 1}

    async def start(self) -> None:
        """Start the destination; the destination accepts writes when this returns."""
        return

    async def stop(self) -> None:
        """Stop the destination for good."""
        return

    async def leave(self, how: str) -> None:
        """Inflict the fault `how` on the destination."""
        if how == REFUSES:
            self._server.status = 503
        else:
            self._server.delay = SLOW_SECONDS

    async def come_back(self, how: str) -> None:
        """End the fault `how`; the contents are as before."""
        self._server.status, self._server.delay = None, 0.0

    async def audit(self, streams: Sequence[Stream], times: Times) -> Audit:
        """Compare the contents with what was sent; no record may be doubled, as no fault here pauses the sink."""
        audit, places = Audit("s3", streams, times), Counter[tuple[str, int, int]]()
        audit.each_as_often_as_on_the_topic(await asyncio.to_thread(lambda: list(self._rows(places))))
        audit.problem("doubled offsets", (place for place, count in places.items() if count > 1))
        return audit

    def _rows(self, places: Counter[tuple[str, int, int]]) -> Iterator[FoundReading]:
        store = pyarrow.fs.S3FileSystem(
            access_key=KEY, secret_key=SECRET, region="us-east-1", endpoint_override=self._server.url
        )
        every = store.get_file_info(pyarrow.fs.FileSelector(f"{BUCKET}/{self._prefix}", recursive=True))
        for info in every:
            if "/day=" in info.path and info.path.endswith(".parquet"):
                log = info.base_name.rsplit("-", 3)[0]
                for row in pq.read_table(info.path, columns=COLUMNS, filesystem=store, partitioning=None).to_pylist():
                    places[log, row["kafka_partition"], row["kafka_offset"]] += 1
                    yield FoundReading(row["device_id"], row["sequence_id"], row["temperature"])


class FullDisk(ParquetFiles):
    """A directory on a disk of DISK bytes, which another file fills."""

    def __init__(self, disk: Path) -> None:
        super().__init__(disk / "lake")
        self._ballast = disk / "ballast"

    async def leave(self, how: str) -> None:
        """Inflict the fault `how` on the destination."""
        with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(1 << 16))
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as ballast:
            while True:
                ballast.write(b"0")

    async def come_back(self, how: str) -> None:
        """End the fault `how`; the contents are as before."""
        self._ballast.unlink()


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of DISK bytes in memory. Skips the test where the account may not mount a file system."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0777", "tmpfs", str(directory)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except OSError as error:
        pytest.skip(f"no small disk, so a full one is NOT tried: {error}")
    if done.returncode:
        pytest.skip(f"no small disk, so a full one is NOT tried: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], capture_output=True, check=True, timeout=30)
