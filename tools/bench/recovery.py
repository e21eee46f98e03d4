"""The speed at which a worker with an empty disk restores its devices' states, and the size of the states.

    python -m tools.bench.recovery --devices 1000000

Writes each device's state, with an open alert, to a changelog topic, then restores an empty RocksDB from the topic with
the worker's own reader. Prints keys a second, CPU seconds, RSS of this process (75 MB are the interpreter and its
libraries) and the bytes on disk.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from faust.types import TP

from app.core.alerts.evaluate import evaluate
from app.core.state.device_state import DeviceState, encode
from app.kafka.access import Access
from app.kafka.messages import OutgoingMessage
from app.kafka.producer import Producer
from app.kafka.topics import TopicSpec, create
from app.settings import Settings
from app.stream.faust_config import RoundsApp, build_app
from app.tables.changelog_reader import ChangelogReader
from app.tables.device_table import FaustStates
from tests import servers
from tools.bench.state import FIVE, readings, rules

PARTITIONS = 12
AT_ONCE = 20_000


def states(devices: int) -> Iterator[OutgoingMessage]:
    """A state for each device, from the same reading, with an open alert."""
    state = DeviceState()
    evaluate(state, readings(changing=True)[3], rules(FIVE), 1)
    for number in range(devices):
        state.applied_offset = number
        yield OutgoingMessage(
            f"user-{number % 5000}/device-{number}".encode(), encode(state), partition=number % PARTITIONS
        )


async def fill(broker: str, changelog: str, devices: int) -> int:
    """Write the changelog; the number of bytes of keys and values."""
    producer, size, left = Producer(Access(broker), "bench", asyncio.Event()), 0, states(devices)
    while some := list(islice(left, AT_ONCE)):
        size += sum(len(one.key or b"") + len(one.value or b"") for one in some)
        await producer.send(changelog, some)
    await producer.stop()
    return size


async def run(devices: int, directory: Path) -> None:
    """Fill the changelog, restore the states and print the figures."""
    with servers.kafka() as kafka:
        settings = Settings(app="bench", kafka_broker=kafka.bootstrap, state_dir=directory, kafka_partitions=PARTITIONS)
        app = build_app(settings, RoundsApp)
        table = FaustStates(app, PARTITIONS, Producer(Access(kafka.bootstrap), "unused", asyncio.Event()))
        await create(
            Access(kafka.bootstrap), [TopicSpec(table.changelog, PARTITIONS, {"cleanup.policy": "compact"})], 1
        )
        size = await fill(kafka.bootstrap, table.changelog, devices)
        app.conf.tabledir.mkdir(parents=True)
        process, store = psutil.Process(), table._store
        before, cpu, began = process.memory_info().rss, process.cpu_times(), time.monotonic()
        await ChangelogReader(app).catch_up({TP(table.changelog, n): store for n in range(PARTITIONS)}, {})
        seconds, after = time.monotonic() - began, process.cpu_times()
        reported(devices, size, seconds, (after.user + after.system) - (cpu.user + cpu.system))
        rss, disk = process.memory_info().rss, weight(directory)
        print(f"RSS {rss / 1e6:,.0f} MB, before {before / 1e6:,.0f}; on disk {disk / 1e6:,.0f} MB")


def weight(directory: Path) -> int:
    """Bytes of all files in a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def reported(devices: int, size: int, seconds: float, cpu: float) -> None:
    """Print the first line of the result."""
    print(
        f"{devices:,} states of {size / devices:,.0f} bytes: {seconds:.1f} s, {devices / seconds:,.0f} keys/s", end=", "
    )
    print(f"{cpu:.1f} CPU s")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made: Any = argparse.ArgumentParser(prog="python -m tools.bench.recovery", description=__doc__)
    made.add_argument("--devices", type=int, default=1_000_000)
    return made  # type: ignore[no-any-return]


def main() -> None:
    """Run the benchmark in a directory that is removed afterwards."""
    args = parser().parse_args()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(run(args.devices, Path(directory)))


if __name__ == "__main__":
    main()
