"""A lake for tests: records of readings, a sink on a directory, and the rows of all its files."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from app.core.model.records import Kind
from app.settings import Settings
from app.sinks.parquet.sink import ParquetSink
from app.sinks.record import SinkRecord
from tests import DEFAULT

TOPIC = "iot-stream"
START = datetime(2026, 11, 30, 12, tzinfo=UTC)
Place = tuple[int, int]  # partition, offset


def record(
    offset: int,
    partition: int = 0,
    time: datetime | None = None,
    temperature: float | None = 21.5,
    battery: int | None = 80,
    extra: str = "{}",
) -> SinkRecord:
    """A record of telemetry, of one of 50 devices."""
    device = f"device-{offset % 50}"
    when = time or START + timedelta(milliseconds=offset)
    reading = DEFAULT.reading(when, "alice", device, offset, {}, extra, temperature, battery)
    return SinkRecord(
        TOPIC, partition, offset, 1_795_230_000_000, Kind.TELEMETRY, "alice", device, f"alice/{device}", reading,
        b"{}", (), None,
    )  # fmt: skip


def records(first: int, after: int, partition: int = 0) -> list[SinkRecord]:
    """The records of the offsets from `first` up to `after`, exclusive."""
    return [record(offset, partition) for offset in range(first, after)]


def settings(root: Path | str, **values: Any) -> Settings:
    """Settings of a sink on this directory."""
    return Settings(parquet_dir=str(root), **values)


def named(identity: str = "topic-1") -> Callable[[str], Awaitable[str]]:
    """An `identify` that returns this id for every topic."""

    async def identify(topic: str) -> str:
        return identity

    return identify


def sink(root: Path | str, identity: str = "topic-1", name: str = "parquet", **values: Any) -> ParquetSink:
    """A sink without Kafka, not opened."""
    return ParquetSink(name, settings(root, **values), named(identity))


def files(root: Path) -> list[Path]:
    """The files that a reader finds."""
    return sorted(root.glob("day=*/*.parquet"))


def places(root: Path) -> list[Place]:
    """(partition, offset) of every row of every file, in order, with repeats."""
    found: list[Place] = []
    for path in files(root):
        table = pq.ParquetFile(path).read(["kafka_partition", "kafka_offset"])
        found += zip(table[0].to_pylist(), table[1].to_pylist(), strict=True)
    return sorted(found)


def expected(*ranges: Iterable[int], partition: int = 0) -> list[Place]:
    """The places of these offsets."""
    return sorted((partition, offset) for one in ranges for offset in one)


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    found: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
    return found


@contextmanager
def refused(folder: Path) -> Iterator[None]:
    """A path of a directory at which there is a file: no user can write there, not even root."""
    away = folder.with_name(f"{folder.name}.away")
    folder.rename(away)
    folder.write_bytes(b"")
    try:
        yield
    finally:
        folder.unlink()
        away.rename(folder)
