"""`python -m tools.bench.presence [--devices 100000]`: the delay of offline alerts, and the cost of presence checks.

First the core alone: the CPU time of a sweep and the memory per device. Then a worker with real Kafka and PostgreSQL:
every device sends once in `--every` seconds; `--silent` devices stop at the same moment, and the delay of each such
device runs from its deadline until its alert is in Kafka. Fails when a delay was longer than 2 s.
"""

import argparse
import asyncio
import gc
import os
import random
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import SecretStr

from app.core.decode.decoder import DecodeLimits as DecodeLimits
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PresenceLimits
from app.core.processing.processor import Processor
from app.core.sweeper.sweeper import Sweeper, SweeperConfig
from app.core.sweeper.watermark import LogPosition
from app.core.user_config.rulebook import RuleBook
from app.kafka import topics
from app.kafka.access import Access
from app.kafka.messages import OutgoingMessage
from app.kafka.producer import Producer
from app.local.servers.common import free_port
from app.local.servers.kafka import Kafka
from app.local.servers.postgres import Postgres
from app.postgres.schema import init_sql
from app.settings import Settings
from tests import DEFAULT
from tools.bench.core import Message, Run
from tools.bench.subject import Subject, worker

AFTER = 5.0
PROMISED = 2.0  # seconds from a device's deadline until its alert is in Kafka
SLICES = 20  # slices of the devices per second; the slices send in turns
TOPIC = "presence"
START = 1_795_230_000.0


def core(count: int) -> None:
    """Print CPU time of a sweep and memory per device, with a record of every device each 4 s."""
    bare, _ = _minute(count, 0.0)
    watched, seconds = _minute(count, AFTER)
    print(f"core, {count:,} devices that send each 4 s, threshold {AFTER:g} s:")
    print(f"  a sweep each second: {median(seconds) * 1000:.1f} ms, at most {max(seconds) * 1000:.1f} ms of CPU")
    print(f"  memory: {watched - bare:.0f} bytes a device, {bare:.0f} without a presence check")


def _minute(count: int, after: float) -> tuple[float, list[float]]:
    """(bytes per device, CPU seconds of each sweep)."""
    records = [_message(n) for n in range(count)]
    gc.collect()
    tracemalloc.start()
    processor = Processor(
        DecodeLimits(), DEFAULT, RuleBook(DEFAULT), lambda *_: None, DeviceClasses((), PresenceLimits(after))
    )
    sweep = Sweeper(processor.partitions, SweeperConfig(grace=0.0))
    processor.partitions.partition(1, 0).registry.seeded = True
    seconds: list[float] = []
    offset, size = 0, 0
    for second in range(40):
        now = START + second
        part = records[second % 4 :: 4]
        for record in part:
            record.offset, record.timestamp, offset = offset, round(now * 1000), offset + 1
        processor(Run(part, offset, 0, 1), now)  # type: ignore[arg-type]  # no ack here
        if second == 8:
            gc.collect()
            size = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
        began = time.process_time()
        claims = sweep.look({0: LogPosition(1, 0, offset, now)}, now, now)
        assert not claims
        if second > 10:
            seconds.append(time.process_time() - began)
    return size / count, seconds


def _message(number: int, user: str = "u") -> Message:
    value = f'{{"time":"2026-11-21T03:00:00Z","sequence_id":{number},"temperature":21.5}}'.encode()
    topic = f"users/{user}/devices/d{number}/telemetry".encode()
    return Message(0, 0, f"{user}/d{number}".encode(), value, (("mqtt_topic", topic),))


class Senders:
    """Senders of all devices; `silent` devices stop sending."""

    def __init__(self, producer: Producer, count: int, every: float) -> None:
        self._producer, self._every = producer, every
        self._turns = round(every * SLICES)
        self._numbers = list(range(count))
        self.silent: set[int] = set()
        self.last: dict[int, float] = {}

    async def send(self) -> None:
        """Send until cancelled: each device once in `every` seconds, with its own phase."""
        turn, due = 0, time.monotonic()
        while True:
            numbers = [n for n in self._numbers[turn % self._turns :: self._turns] if n not in self.silent]
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            await self._producer.send(TOPIC, [_outgoing(n, turn, stamp) for n in numbers])
            self.last.update(dict.fromkeys(numbers, time.time()))
            turn, due = turn + 1, due + 1 / SLICES
            await asyncio.sleep(max(0.0, due - time.monotonic()))


def _outgoing(number: int, turn: int, stamp: str) -> OutgoingMessage:
    value = f'{{"time":"{stamp}","sequence_id":{turn},"temperature":21.5}}'.encode()
    return OutgoingMessage(b"u/d%d" % number, value, [("mqtt_topic", b"users/u/devices/d%d/telemetry" % number)])


async def fleet(kafka: Kafka, settings: Settings, subject: Subject, options: argparse.Namespace) -> bool:
    """Send, stop some devices and time their alerts; whether all delays were within PROMISED."""
    producer = Producer(Access(kafka.bootstrap), "bench", asyncio.Event())
    senders = Senders(producer, options.devices, options.every)
    sending = asyncio.create_task(senders.send())
    try:
        await _calm(subject, options.devices)
        cpu = _cpu(subject)
        await asyncio.sleep(20)
        share = (_cpu(subject) - cpu) / 20
        gone = random.Random(options.seed).sample(range(options.devices), options.silent)
        senders.silent = set(gone)
        reported = await _reported(kafka, settings, len(gone))
    finally:
        sending.cancel()
        await asyncio.wait([sending])
        await producer.stop()
    late = sorted(reported[f"d{n}"] - senders.last[n] - options.after for n in gone if f"d{n}" in reported)
    rate = options.devices / options.every
    rest = len(reported) - len(late)
    print(f"worker, {options.devices:,} devices, {rate:,.0f} messages a second, {options.silent:,} fall silent:")
    print(f"  {len(late):,} alerts; {rest} for other devices; worker at {share:.0%} of a core, {subject.rss():.0f} MB")
    if late:
        places = [late[int(len(late) * share)] for share in (0.5, 0.99)]
        print(f"  after the deadline: median {places[0]:.2f} s, 99 % {places[1]:.2f} s, at most {late[-1]:.2f} s")
    return len(late) == len(reported) == len(gone) and late[-1] <= PROMISED


async def _calm(subject: Subject, devices: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = await asyncio.to_thread(subject.metrics)
        if found.get("iot_devices_online") == devices and found.get("iot_silence_suspended_partitions") == 0:
            return
        await asyncio.sleep(1)
    raise TimeoutError(f"{devices} devices wanted: {found}")


def _cpu(subject: Subject) -> float:
    fields = Path(f"/proc/{subject.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _reported(kafka: Kafka, settings: Settings, count: int) -> dict[str, float]:
    """{device: time of its alert in Kafka}, read until 5 s after `count` alerts, or for a minute."""
    found: dict[str, float] = {}
    topic = settings.kafka_alerts_topic
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, number) for number in range(settings.kafka_partitions)])
        deadline = time.monotonic() + 60 + settings.offline_after
        while time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    event: dict[str, Any] = msgspec.json.decode(record.value)
                    found.setdefault(event["device_id"], record.timestamp / 1000)
            if len(found) >= count:
                deadline = min(deadline, time.monotonic() + 5)
    return found


def run(options: argparse.Namespace) -> bool:
    """Run both parts, the second on its own servers; whether all delays were within PROMISED."""
    core(options.devices)
    with tempfile.TemporaryDirectory(prefix="iot-bench-") as home:
        os.chmod(home, 0o755)  # PostgreSQL runs under its own account
        kafka, postgres = Kafka(Path(home) / "kafka"), Postgres(Path(home) / "postgres")
        try:
            kafka.start()
            postgres.start()
            kafka.wait_ready()
            postgres.wait_ready()
            settings = Settings(
                app=TOPIC, kafka_broker=kafka.bootstrap, kafka_topic=TOPIC, database_url=SecretStr(postgres.dsn),
                metrics_port=free_port(), offline_after=options.after,
            )  # fmt: skip
            asyncio.run(init_sql.apply(postgres.dsn))
            asyncio.run(topics.create(Access(kafka.bootstrap), topics.wanted(settings), 1))
            os.environ["IOT_OFFLINE_AFTER"] = str(options.after)  # for the worker and the following runs
            with worker(settings, home) as subject:
                return asyncio.run(fleet(kafka, settings, subject, options))
        finally:
            postgres.stop()
            kafka.stop()


def parser() -> argparse.ArgumentParser:
    """Options and their defaults."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--devices", type=int, default=100_000)
    made.add_argument("--silent", type=int, default=5_000, help="of them, at one moment")
    made.add_argument("--every", type=float, default=4.0, help="seconds between two messages of a device")
    made.add_argument("--after", type=float, default=AFTER, help="seconds of silence (IOT_OFFLINE_AFTER)")
    made.add_argument("--seed", type=int, default=1)
    return made


if __name__ == "__main__":
    sys.exit(0 if run(parser().parse_args()) else 1)
