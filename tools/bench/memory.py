"""Memory of one worker at full load with a slow database: whether it is bounded and whether it grows.

    python -m tools.bench.memory --minutes 30 --database-speed 0.1

On its own servers the worker first drains a topic at full speed, through a proxy that counts the bytes to PostgreSQL.
Then the proxy limits the bytes a second to the share `--database-speed`, while the topic always has records ahead of
the worker. RSS is read from /proc every second. The table is emptied every minute, so that the disk does not fill.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
from pydantic import SecretStr

from app.kafka import topics
from app.kafka.access import Access
from app.local.servers.common import free_port
from app.local.servers.kafka import Kafka
from app.local.servers.postgres import Postgres
from app.settings import Settings
from tools.bench.end_to_end import prepare
from tools.bench.feeder import Feeder
from tools.bench.subject import Subject, worker
from tools.bench.throttle import Throttle

TOPIC = "memory"
FULL_ROWS = 600_000  # for the measurement of the full speed; the first third is warm-up
AHEAD = 600_000  # minimum lag in records; without compression, so that the records fill the client's fetch buffer
WARM_UP = 600.0  # seconds; at most a third of the run. Each partition's RocksDB buffers fill separately
COMPARED = 300.0  # seconds at each end whose medians are compared; at most a quarter of the run
EMPTY_EVERY = 60.0  # seconds
PATIENCE = 120.0  # seconds without a new row


class Sample(NamedTuple):
    """The figures of one second."""

    at: float  # seconds since the slow phase began
    rss: float  # MB
    rows: float
    buffered: float  # MB, from the worker's metric
    fetched: float  # MB


@dataclass
class Result:
    """The printed result; 1 MB is 10^6 bytes."""

    full_rows_per_second: float
    slow_rows_per_second: float = 0.0
    seconds: float = 0.0
    rss_max: float = 0.0
    rss_first: float = 0.0  # median of the first minutes after the warm-up
    rss_last: float = 0.0
    rss_slope_per_hour: float = 0.0  # least squares over all after the warm-up
    buffered_max: float = 0.0
    fetched_max: float = 0.0
    samples: list[Sample] = field(default_factory=list, repr=False)

    def judge(self) -> None:
        """Compute the figures from the samples."""
        end = self.samples[-1].at
        warm = [one for one in self.samples if one.at >= min(WARM_UP, end / 3)]
        part = min(COMPARED, (end - warm[0].at) / 4)
        self.seconds = end
        self.slow_rows_per_second = (warm[-1].rows - warm[0].rows) / (warm[-1].at - warm[0].at)
        self.rss_max = max(one.rss for one in self.samples)
        self.rss_first = statistics.median(one.rss for one in warm if one.at <= warm[0].at + part)
        self.rss_last = statistics.median(one.rss for one in warm if one.at >= end - part)
        self.rss_slope_per_hour = (
            3600 * statistics.linear_regression([one.at for one in warm], [one.rss for one in warm]).slope
        )
        self.buffered_max = max(one.buffered for one in warm)
        self.fetched_max = max(one.fetched for one in warm)

    def report(self) -> str:
        """The result as text."""
        return (
            f"full speed {self.full_rows_per_second:,.0f} rows/s; then {self.slow_rows_per_second:,.0f} rows/s for "
            f"{self.seconds / 60:.1f} min\n"
            f"RSS: max {self.rss_max:.0f} MB, median at first {self.rss_first:.0f} MB, at last {self.rss_last:.0f} MB, "
            f"slope {self.rss_slope_per_hour:+.1f} MB/h\n"
            f"iot_buffered_bytes up to {self.buffered_max:.0f} MB, iot_fetched_bytes up to {self.fetched_max:.0f} MB"
        )


def full_speed(subject: Subject, feeder: Feeder, throttle: Throttle) -> tuple[float, float]:
    """Rows and bytes a second without a limit of the proxy. Raises TimeoutError when no rows come."""
    first: tuple[float, float, int] | None = None
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        subject.rss()
        rows, now, passed = subject.stored(), time.monotonic(), throttle.passed
        if first is None and rows >= FULL_ROWS / 3:
            first = (rows, now, passed)
        if first is not None and rows >= FULL_ROWS * 0.95:
            return (rows - first[0]) / (now - first[1]), (passed - first[2]) / (now - first[1])
        time.sleep(0.1)
    raise TimeoutError(f"{subject.stored():.0f} of {FULL_ROWS} rows in {PATIENCE:.0f} s")


def slow(subject: Subject, feeder: Feeder, database: str, seconds: float, quiet: bool) -> list[Sample]:
    """Sample every second, with records always ahead of the worker. Raises TimeoutError when no new row comes."""
    samples: list[Sample] = []
    began = emptied = time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        found = subject.metrics()
        rows = found.get("iot_rows_stored_total", samples[-1].rows if samples else 0.0)
        buffered, fetched = found.get("iot_buffered_bytes", 0.0) / 1e6, found.get("iot_fetched_bytes", 0.0) / 1e6
        samples.append(Sample(at, subject.rss(), rows, buffered, fetched))
        feeder.wanted = int(rows) + AHEAD
        if len(samples) > PATIENCE and samples[-int(PATIENCE)].rows == rows:
            raise TimeoutError(f"no new row for {PATIENCE:.0f} s")
        if time.monotonic() - emptied >= EMPTY_EVERY:
            emptied = time.monotonic()
            asyncio.run(empty(database))
            if not quiet:
                print(f"  {at / 60:5.1f} min  {rows:12,.0f} rows  {samples[-1].rss:6.0f} MB", flush=True)
        time.sleep(max(0.0, began + at + 1 - time.monotonic()))
    return samples


async def empty(database: str) -> None:
    """Empty the table, so that the disk does not fill."""
    connection = await asyncpg.connect(database)
    await connection.execute("TRUNCATE raw_telemetry")
    await connection.close()


def measure(kafka: Kafka, postgres: Postgres, options: argparse.Namespace, home: str) -> Result:
    """Run both phases."""
    asyncio.run(prepare(postgres.dsn))
    throttle = Throttle("127.0.0.1", postgres.port)
    throttle.start()
    url = urlsplit(postgres.dsn)
    slowed = url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{throttle.port}").geturl()
    settings = Settings(
        app="memory", kafka_broker=kafka.bootstrap, kafka_topic=TOPIC, database_url=SecretStr(slowed),
        metrics_port=free_port(),
    )  # fmt: skip
    asyncio.run(topics.create(Access(kafka.bootstrap), topics.wanted(settings), 1))
    feeder = Feeder(kafka.bootstrap, TOPIC, options.devices)
    feeder.start()
    try:
        feeder.wanted = FULL_ROWS
        while feeder.written < FULL_ROWS:
            time.sleep(0.1)
        with worker(settings, home) as subject:
            rows, bytes_ = full_speed(subject, feeder, throttle)
            feeder.wanted = FULL_ROWS + AHEAD
            throttle.rate = bytes_ * options.database_speed
            result = Result(full_rows_per_second=rows)
            result.samples = slow(subject, feeder, postgres.dsn, options.minutes * 60, options.json)
    finally:
        feeder.stop()
        throttle.stop()
    result.judge()
    return result


def run(options: argparse.Namespace) -> Result:
    """Start the servers, measure, stop them."""
    with tempfile.TemporaryDirectory(prefix="iot-bench-") as home:
        os.chmod(home, 0o755)  # PostgreSQL runs under its own account
        kafka, postgres = Kafka(Path(home) / "kafka"), Postgres(Path(home) / "postgres")
        try:
            kafka.start()
            postgres.start()
            kafka.wait_ready()
            postgres.wait_ready()
            return measure(kafka, postgres, options, home)
        finally:
            postgres.stop()
            kafka.stop()


def parser() -> argparse.ArgumentParser:
    """Options and their defaults."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--minutes", type=float, default=30)
    made.add_argument("--database-speed", type=float, default=0.1, help="share of the bytes a second at full speed")
    made.add_argument("--devices", type=int, default=500)
    made.add_argument("--json", action="store_true", help="the result with every sample, and nothing else")
    return made


if __name__ == "__main__":
    chosen = parser().parse_args()
    outcome = run(chosen)
    print(json.dumps(asdict(outcome)) if chosen.json else outcome.report())
