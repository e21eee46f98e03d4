"""What the Parquet sink costs for itself: records that are decoded in, files out; no Kafka.

    python -m tests.bench.parquet [--rows 500000] [--runs 3] [DIRECTORY]

For each compression: rows a CPU second of this process, all its threads and the flush included; bytes a row; the
longest that the event loop stood still, beside a loop that has nothing to do.
"""

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from app.core.model.records import Kind
from app.settings import Settings
from app.sinks.parquet.sink import ParquetSink
from app.sinks.record import SinkRecord
from tests import DEFAULT
from tests.bench.store import batches

PARTITIONS = 4
SLICE = 500  # records, as the runner hands them over
BEAT = 0.001  # seconds
WAYS = (("snappy", True), ("zstd", False), ("zstd", True))  # compression, encodings


def records(rows: int) -> list[list[SinkRecord]]:
    """The benchmark's readings as records of PARTITIONS, in slices of one partition each."""
    found = list[list[SinkRecord]]()
    for at, batch in enumerate(batches(rows, SLICE)):
        partition, first = at % PARTITIONS, at // PARTITIONS * SLICE
        found.append([_record(partition, first + number, row) for number, row in enumerate(batch)])
    return found


def _record(partition: int, offset: int, row: Sequence[object]) -> SinkRecord:
    time_, user, device, sequence, temperature, battery, extra = row
    reading = DEFAULT.reading(time_, user, device, sequence, {}, extra, temperature, battery)
    ids = (str(user), str(device), f"{user}/{device}")
    return SinkRecord("iot-stream", partition, offset, 0, Kind.TELEMETRY, *ids, reading, b"", (), None)


async def measure(slices: Sequence[Sequence[SinkRecord]], root: Path, compression: str, encodings: bool) -> list[float]:
    """Rows a CPU second, bytes a row, longest stop in ms."""

    async def topic_id(topic: str) -> str:
        return "bench"

    settings = Settings(parquet_dir=str(root), parquet_compression=compression, parquet_encodings=encodings)
    sink = ParquetSink("parquet", settings, topic_id)
    await sink.open()
    await sink.resume("iot-stream", range(PARTITIONS))
    stops, rows = list[float](), sum(map(len, slices))
    beating = asyncio.create_task(_beat(stops))
    began = time.process_time()
    for one in slices:
        sink.add(one)
        if sink.due:
            await sink.flush()
        await asyncio.sleep(0)
    await sink.flush()
    used = time.process_time() - began
    beating.cancel()
    await sink.close()
    return [rows / used, _size(root) / rows, max(stops, default=0.0) * 1000]


def _size(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("day=*/*.parquet"))


async def _beat(stops: list[float]) -> None:
    while True:
        before = time.perf_counter()
        await asyncio.sleep(BEAT)
        stops.append(time.perf_counter() - before - BEAT)


async def _idle() -> float:
    stops = list[float]()
    beating = asyncio.create_task(_beat(stops))
    await asyncio.sleep(2)
    beating.cancel()
    return max(stops) * 1000


def main() -> None:
    """Measure each way, `--runs` times in turn, and print medians."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", nargs="?", type=Path)
    arguments.add_argument("--rows", type=int, default=500_000)
    arguments.add_argument("--runs", type=int, default=3)
    chosen = arguments.parse_args()
    slices = records(chosen.rows)
    results: dict[tuple[str, bool], list[list[float]]] = {way: [] for way in WAYS}
    for _ in range(chosen.runs):
        for way in WAYS:
            root = Path(tempfile.mkdtemp(dir=chosen.directory))
            results[way].append(uvloop.run(measure(slices, root, *way)))
            shutil.rmtree(root)
    print(
        f"| of {chosen.rows:,} rows | rows a CPU second | bytes a row | longest stop, ms |\n| --- | --- | --- | --- |"
    )
    for (compression, encodings), runs in results.items():
        rate, size, stop = (statistics.median(values) for values in zip(*runs, strict=True))
        name = f"{compression}, encodings" if encodings and compression == "zstd" else compression
        print(f"| {name} | {rate:,.0f} | {size:.1f} | {stop:.1f} |")
    print(f"a loop that has nothing to do: {uvloop.run(_idle()):.1f} ms")


if __name__ == "__main__":
    main()
