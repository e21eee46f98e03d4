"""The Parquet sink on a disk that is full: it waits, keeps what it holds, and takes no room with what it tries."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.sinks.port import SinkUnavailable
from tests.unit.sinks.parquet.lake import expected, places, records, sink

pytestmark = pytest.mark.integration

SIZE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of SIZE bytes."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("only root may mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Take all of the disk but so many bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(os.fstat(file.fileno()).st_size - leave)
    return ballast


@pytest.mark.parametrize("leave", [0, 16_384])
async def test_a_full_disk_costs_time_and_no_record(small_disk: Path, leave: int) -> None:
    lake = small_disk / "lake"
    one = sink(lake, parquet_compression="none")
    await one.open()
    await one.resume("iot-stream", [0, 1])
    one.add([*records(0, 3000), *records(0, 3000, partition=1)])
    ballast = fill(small_disk, leave)
    before = os.statvfs(small_disk).f_bfree
    for tries in range(4):
        with pytest.raises(SinkUnavailable, match=os.strerror(errno.ENOSPC)) as failure:
            await one.flush()
        assert "make room" in str(failure.value)
        assert not failure.value.so_far.upto
        one.add(records(3000 + tries, 3001 + tries))
    assert os.statvfs(small_disk).f_bfree >= before - 4, "a try leaves nothing behind but directories"
    assert one.held.records == 6004
    ballast.unlink()
    assert (await one.flush()).upto == {0: 3004, 1: 3000}
    assert places(lake) == expected(range(3004)) + expected(range(3000), partition=1)
    assert not list((lake / "_staging").rglob("*.tmp"))
    await one.close()
