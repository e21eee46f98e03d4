"""The destination of the sink parquet: a directory of files, which can be taken away."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from tools.faults.sinks.found import Audit, FoundReading, Times
from tools.faults.stream import Stream

COLUMNS = ["user_id", "device_id", "sequence_id", "temperature", "kafka_partition", "kafka_offset"]


class ParquetFiles:
    """A directory of Parquet files."""

    sink = "parquet"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the sink that writes there."""
        return {"parquet_dir": str(self.directory), "parquet_rotate_seconds": 1, "parquet_compression": "zstd"}

    async def start(self) -> None:
        """Start the destination; the destination accepts writes when this returns."""
        return

    async def stop(self) -> None:
        """Stop the destination for good."""
        return

    async def leave(self, how: str) -> None:
        """Replace the directory by a file, so that no account can write to it, not even root."""
        self.directory.rename(self.directory.with_suffix(".away"))
        self.directory.write_text("")

    async def come_back(self, how: str) -> None:
        """End the fault `how`; the contents are as before."""
        self.directory.unlink()
        self.directory.with_suffix(".away").rename(self.directory)

    async def audit(self, streams: Sequence[Stream], times: Times) -> Audit:
        """Compare what the destination has with what was sent."""
        audit, places = Audit("parquet", streams, times), Counter[tuple[str, int, int]]()
        found = await asyncio.to_thread(lambda: list(self._rows(places)))
        audit.each_as_often_as_on_the_topic(found)
        audit.problem("doubled offsets", (place for place, count in places.items() if count > 1))
        return audit

    def _rows(self, places: Counter[tuple[str, int, int]]) -> Iterator[FoundReading]:
        """The rows of all files; counts each record in `places` by (topic's tag in file name, partition, offset)."""
        for path in self.directory.glob("day=*/*.parquet"):
            log = path.name.rsplit("-", 3)[0]  # a recreated topic counts from 0 again
            for row in pq.ParquetFile(path).read(COLUMNS).to_pylist():
                places[log, row["kafka_partition"], row["kafka_offset"]] += 1
                yield FoundReading(row["device_id"], row["sequence_id"], row["temperature"])
