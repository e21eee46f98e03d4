"""The cost of the Parquet sink alone: from decoded records to files, without Kafka.

    python -m tools.bench.parquet [--rows 500000] [--runs 3] [DIRECTORY]

For each compression: rows per CPU second of this process, including all threads and the flush; bytes per row; the
longest pause of the event loop, compared with an idle loop. Values are random: 500 devices of 50 users, times within a
tenth of a second, temperatures in tenths of a degree, a battery, and a field in extra_data of every fourth row.
"""

import argparse
import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop

from app.core.model.records import Kind
from app.settings import Settings
from app.sinks.parquet.sink import ParquetSink
from app.sinks.record import SinkRecord
from tests import DEFAULT

PARTITIONS, DEVICES = 4, 500
START = datetime(2026, 11, 30, tzinfo=UTC)
SLICE = 500  # records per call, as from the runner
BEAT = 0.001  # seconds
WAYS = (("snappy", True), ("zstd", False), ("zstd", True))  # compression, encodings


def records(rows: int) -> list[list[SinkRecord]]:
    """Readings as records of PARTITIONS, in slices with one partition each."""
    chance, found, sequences = random.Random(1), list[list[SinkRecord]](), dict.fromkeys(range(DEVICES), 0)
    for at in range(rows // SLICE):
        partition, first = at % PARTITIONS, at // PARTITIONS * SLICE
        found.append([_record(chance, sequences, partition, first + number, at) for number in range(SLICE)])
    return found


def _record(chance: random.Random, sequences: dict[int, int], partition: int, offset: int, at: int) -> SinkRecord:
    number = chance.randrange(DEVICES)
    sequences[number] += 1
    user, device = f"user-{number % 50}", f"device-{number}"
    when = START + timedelta(seconds=at * SLICE / 10_000, milliseconds=chance.randrange(100))
    extra = f'{{"humidity":{chance.randrange(300, 900) / 10}}}' if offset % 4 == 0 else "{}"
    temperature, battery = chance.randrange(-100, 400) / 10, chance.randrange(101)
    reading = DEFAULT.reading(when, user, device, sequences[number], {}, extra, temperature, battery)
    ids = (user, device, f"{user}/{device}")
    return SinkRecord("iot-stream", partition, offset, 0, Kind.TELEMETRY, *ids, reading, b"", (), None)


async def measure(slices: Sequence[Sequence[SinkRecord]], root: Path, compression: str, encodings: bool) -> list[float]:
    """(rows per CPU second, bytes per row, longest pause of the event loop in ms)."""

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
    """Measure each compression, `--runs` times in turns, and print medians."""
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
