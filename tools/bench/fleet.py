"""The cost of a large fleet's states for one worker: memory, disk, and time to read states from disk again.

    python -m tools.bench.fleet --devices 1000000

The worker's own Processor, sweeper and RocksDB run with five rules and a presence check of every device, without Kafka
and database. Each device sends a first reading, which opens an alert for one device in ten, and then another reading,
in an order that finds almost no state in memory. Then all states are read from disk, as after a rebalance. Fails when
the process (about 100 MB are the interpreter and its libraries) used more than `--most` megabytes.
"""

import argparse
import asyncio
import gc
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from app.core.decode.decoder import DecodeLimits as DecodeLimits
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PresenceLimits
from app.core.processing.processor import Processor
from app.core.sweeper.sweeper import Sweeper, SweeperConfig
from app.core.sweeper.watermark import LogPosition
from app.core.user_config.rulebook import RuleBook
from app.kafka.access import Access
from app.kafka.producer import Producer
from app.settings import Settings
from app.stream.faust_config import RoundsApp, build_app
from app.tables.device_table import FaustStates
from tests import DEFAULT
from tools.bench.core import BATCH, FIVE_RULES, Message, Run
from tools.bench.recovery import weight

PARTITIONS = 12
USERS = 5000
START = 1_795_230_000.0
STAMP = "2026-11-21T03:00:"


class Fleet:
    """A worker's core and its disk; the clock follows the readings: one second per round."""

    def __init__(self, directory: Path, in_memory: int, after: float) -> None:
        settings = Settings(app="bench", state_dir=directory, kafka_partitions=PARTITIONS)
        app = build_app(settings, RoundsApp)
        app.conf.tabledir.mkdir(parents=True)
        self.states = FaustStates(app, PARTITIONS, Producer(Access("nobody:9092"), "unused", asyncio.Event()))
        book = RuleBook(DEFAULT)
        assert not book.apply([(f"user-{user}", FIVE_RULES) for user in range(USERS)])
        classes = DeviceClasses((), PresenceLimits(after))
        self.processor = Processor(DecodeLimits(), DEFAULT, book, self.states.get, classes, in_memory=in_memory)
        self.sweep = Sweeper(self.processor.partitions, SweeperConfig(grace=0.0, mass_share=1.0))
        self.offsets = [0] * PARTITIONS
        self.epoch, self.now, self.cpu = 1, START, 0.0

    def sends(self, devices: Sequence[int], turn: int) -> None:
        """Process one reading of each of these devices, in that order, in batches of the worker's size; CPU seconds."""
        places: list[list[int]] = [[] for _ in range(PARTITIONS)]
        for device in devices:
            places[device % PARTITIONS].append(device)
        for partition, some in enumerate(places):
            for start in range(0, len(some), BATCH):
                self._batch(partition, some[start : start + BATCH], turn)

    def _batch(self, partition: int, devices: Sequence[int], turn: int) -> None:
        first = self.offsets[partition]
        records = [_reading(device, turn, first + n, self.now) for n, device in enumerate(devices)]
        self.offsets[partition] += len(records)
        began = time.process_time()
        batch = Run(records, self.offsets[partition], partition, self.epoch)
        work = self.processor(batch, self.now)  # type: ignore[arg-type]  # no ack here
        assert len(work.rows) == len(records), work.rejected[:1]
        self.states._store.write(partition, work.states, None)
        self.processor.closed(batch)  # type: ignore[arg-type]
        self.cpu += time.process_time() - began

    def looks(self) -> float:
        """Look once for silent devices; CPU seconds."""
        began = time.process_time()
        tides = {n: LogPosition(self.epoch, 0, self.offsets[n], self.now) for n in range(PARTITIONS)}
        for number in range(PARTITIONS):
            self.processor.partitions.partition(self.epoch, number).registry.seeded = True
        claims = self.sweep.look(tides, self.now, self.now)
        assert not claims, claims[:3]
        return time.process_time() - began

    def assigned_anew(self) -> float:
        """Clear the memory and read the online devices from disk; CPU seconds."""
        began = time.process_time()
        self.epoch += 1
        for number in range(PARTITIONS):
            partition = self.processor.partitions.partition(self.epoch, number)
            for key, value in self.states.items(number):
                self.processor.partitions.seed(partition, key, value, self.now)
        return time.process_time() - began


def _reading(device: int, turn: int, offset: int, now: float) -> Message:
    user = f"user-{device % USERS}"
    temperature = 95.5 if device % 10 == 3 else 21.5
    value = (
        f'{{"time":"{STAMP}{turn:02}Z","sequence_id":{turn},"temperature":{temperature},"battery":80,"humidity":41.2}}'
    )
    topic = f"users/{user}/devices/device-{device}/telemetry".encode()
    return Message(
        offset, round(now * 1000), f"{user}/device-{device}".encode(), value.encode(), (("mqtt_topic", topic),)
    )


def rounds(devices: int) -> Iterator[tuple[str, Sequence[int]]]:
    """(name of the round, devices that send, in that order) of each round."""
    order = list(range(devices))
    yield "first reading of each device", order
    random.Random(1).shuffle(order)
    yield "second reading, random order", order
    yield "five readings of a tenth of the devices", order[: devices // 10] * 5


def run(options: argparse.Namespace, directory: Path) -> float:
    """Print the cost of each round; the largest RSS of the process in MB."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)  # as in the worker
    fleet = Fleet(directory, options.in_memory, options.after)
    process = psutil.Process()
    print(f"{options.devices:,} devices, {options.in_memory:,} in memory; RSS {_rss(process):,.0f} MB before")
    for turn, (name, order) in enumerate(rounds(options.devices)):
        fleet.cpu, fleet.now = 0.0, START + turn
        fleet.sends(order, turn)
        look = fleet.looks()
        each = fleet.cpu / len(order) * 1e6
        print(f"{name}: {each:.1f} us a message, RSS {_rss(process):,.0f} MB, a sweep {look * 1000:.0f} ms")
    print(f"{fleet.sweep.watched:,} online, {fleet.processor.devices:,} states in memory")
    seconds = fleet.assigned_anew()
    print(f"new assignment: {seconds:.1f} CPU s, RSS {_rss(process):,.0f} MB")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(f"most RSS {most:,.0f} MB; on disk {weight(directory) / 1e6:,.0f} MB")
    return most


def _rss(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 1e6)


def main() -> int:
    """Run the benchmark in a directory that is removed afterwards; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--in-memory", type=int, default=Settings.model_fields["devices_in_memory"].default)
    parser.add_argument("--after", type=float, default=3600.0, help="seconds of silence until offline; 0: not watched")
    parser.add_argument("--most", type=float, default=1000.0, help="megabytes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        return 1 if run(options, Path(directory)) > options.most else 0


if __name__ == "__main__":
    sys.exit(main())
