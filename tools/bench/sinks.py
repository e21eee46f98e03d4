"""The cost of a row at each sink: CPU of the sink's process, decoding and Kafka included, to a real destination.

    python -m tools.bench.sinks                                   # all, five minutes
    python -m tools.bench.sinks --only parquet --rows 1000000 --runs 5 --json
    python -m tools.bench.sinks --frozen 600                      # a worker and two sinks, one of them frozen

One process of the sink drains a backlog on a real Kafka into Parquet files (zstd), InfluxDB 1 without gzip, Redis (last
values), and receivers of HTTP and gRPC that accept everything; the CPU of destinations and load is not counted. The
figures are medians, from the first to the last written rows. `stop` is the longest response time of /live, requested
twenty times a second: no pause of the process's event loop was longer. The last line is the limit of series alone.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import aiohttp
import psutil
import uvloop

from app.kafka.access import Access
from app.kafka.topics import create, wanted
from app.local.layout import SINKS
from app.local.servers.common import LOOPBACK, free_port
from app.settings import Settings
from app.sinks.cardinality.limits import SeriesBounds, SeriesLimit
from app.sinks.decode import SinkDecoder
from tests import DEFAULT, servers
from tests.servers import GivenMqtt
from tests.sink_records import message
from tests.workers import Running, Site
from tools.bench import frozen_sink
from tools.bench.load import fill
from tools.bench.receivers import PATH
from tools.faults.sinks.destinations import Destination
from tools.faults.sinks.parquet_files import ParquetFiles
from tools.faults.sinks.servers import Influx, RedisServer
from tools.faults.sinks.traffic import NOBODY, books

DEVICES = 1000
LEAST = {"parquet": 170_000, "influx": 130_000, "redis": 160_000}  # the targets, rows per CPU second
MOST_BYTES, MOST_STOP_MS = 8.0, 20.0  # the limits: bytes of a row in a file; a pause of the event loop
LOOK = 0.25  # seconds between two scrapes, each of which costs the sink some milliseconds
GIVE_UP = 300.0
SERIES, MOST_SERIES_US, MOST_SERIES_MB = 100_000, 0.3, 64.0


class Drained(NamedTuple):
    """The figures of one run."""

    rate: float  # rows per CPU second
    seconds: float
    rss: float  # MB
    stop: float  # milliseconds, the longest response time of /live
    bytes: float  # bytes per row in the files, 0 for other sinks


@dataclass
class Receiver:
    """A receiver in its own process that stores nothing."""

    sink: str
    port: int

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the sink that sends to this receiver."""
        if self.sink == "http_feed":
            return {"feed_url": f"http://{LOOPBACK}:{self.port}{PATH}"}
        return {"grpc_push_target": f"{LOOPBACK}:{self.port}"}

    async def start(self) -> None:
        """Start the receiver and wait until it serves."""
        kind = "http" if self.sink == "http_feed" else "grpc"
        command = [sys.executable, "-m", "tools.bench.receivers", kind, str(self.port)]
        self._process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert self._process.stdout
        assert await self._process.stdout.readline() == b"serving\n"

    async def stop(self) -> None:
        """Stop the receiver."""
        self._process.kill()
        await self._process.wait()


def destination(sink: str, directory: Path) -> Destination | Receiver:
    """The destination of a sink in the benchmark."""
    match sink:
        case "parquet":
            return ParquetFiles(directory / "parquet")
        case "influx":
            return Influx(directory)
        case "redis":
            return RedisServer(directory)
    return Receiver(sink, free_port())


def settings(sink: str, where: Destination | Receiver) -> dict[str, object]:
    """Settings of a sink that drains a backlog: default batches, files of three seconds."""
    more: dict[str, object] = {"influx_flush_ms": 1000, "influx_sequence_id": "none", "parquet_rotate_seconds": 3}
    return {**where.settings, **more} if sink in LEAST else dict(where.settings)


@asynccontextmanager
async def site_of(kafka: str, app: str, topic: str, directory: Path, more: dict[str, object]) -> AsyncIterator[Site]:
    """A site with its own consumer group on the existing topic."""
    known = {"kafka_topic": topic, "app": app, **more}
    site = Site(kafka, NOBODY, GivenMqtt("127.0.0.1", 1, "nobody", "none"), app, directory, known)
    await create(Access(kafka), wanted(site.settings), 1)
    yield site


async def run(site: Site, sink: str, rows: int) -> Drained:
    """Drain the topic once. Raises TimeoutError after GIVE_UP seconds."""
    with site.program(f"sink-{sink}") as program:
        await program.ready(60)
        stops: list[float] = []
        asking = asyncio.create_task(_ask(program, stops))
        try:
            return await _drain(program, rows, stops)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def _drain(program: Running, rows: int, stops: list[float]) -> Drained:
    process, first, rss = psutil.Process(program.pid), None, 0.0
    began = time.monotonic()
    while time.monotonic() < began + GIVE_UP:
        found, now, cpu = await books(program), time.monotonic(), _cpu(process)
        rss = max(rss, process.memory_info().rss / 1e6)
        if first is None and found.get("received"):
            first = (found["received"], now, cpu)
            stops.clear()
        if first and found.get("written", 0) >= rows and not found["held"]:
            done = rows - first[0]
            return Drained(done / (cpu - first[2]), now - first[1], rss, max(stops, default=0.0) * 1e3, 0.0)
        await asyncio.sleep(LOOK)
    raise TimeoutError(f"{await books(program)} of {rows} rows in {GIVE_UP:g} s:\n{program.tail()}")


async def _ask(program: Running, stops: list[float]) -> None:
    """Append the response time of /live to `stops`, twenty times a second."""
    port = program.events("sinks_started")
    url = f"http://{LOOPBACK}:{port[-1]['metrics_port']}/live" if port else ""
    async with aiohttp.ClientSession() as session:
        while url:
            began = time.perf_counter()
            async with session.get(url) as answer:
                await answer.read()
            stops.append(time.perf_counter() - began)
            await asyncio.sleep(0.05)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def series_cost() -> tuple[float, float]:
    """(microseconds per record of a known series with the maximum of SERIES known series, their megabytes)."""
    decoder = SinkDecoder(Settings(_env_file=None))
    records = decoder.decode(0, [message(n, device=f"d{n}") for n in range(SERIES // 2)])
    tracemalloc.start()
    limit = SeriesLimit("bench", SeriesBounds(SERIES, SERIES), DEFAULT, time.monotonic)
    for at in range(0, len(records), 500):
        limit.admit(records[at : at + 500])
        limit.fresh.clear()  # as after the write to the log
    megabytes = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    took = []
    for _ in range(5):
        began = time.process_time()
        for at in range(0, len(records), 500):
            limit.admit(records[at : at + 500])
        took.append((time.process_time() - began) / len(records) * 1e6)
    return min(took), megabytes


def line(sink: str, runs: Sequence[Drained]) -> str:
    """The line of a sink in the table."""
    rates = [one.rate for one in runs]
    rate, least = statistics.median(rates), LEAST.get(sink)
    verdict = f">= {least:,} {'ok' if rate >= least else 'MISSED'}" if least else ""
    stop = statistics.median(one.stop for one in runs)
    size = statistics.median(one.bytes for one in runs)
    more = f"  {size:.1f} bytes a row (<= {MOST_BYTES:g})" if size else ""
    return (
        f"{sink:10} {rate:10,.0f} rows/CPU s ({min(rates):,.0f}-{max(rates):,.0f}) {verdict:18}"
        f"  {max(one.rss for one in runs):4.0f} MB  stop {stop:5.1f} ms{more}"
    )


async def bench(options: argparse.Namespace, directory: Path) -> dict[str, list[Drained]]:
    """Run each sink `runs` times on the same records."""
    found: dict[str, list[Drained]] = {}
    with servers.kafka() as kafka:
        first = Site(kafka.bootstrap, NOBODY, GivenMqtt("127.0.0.1", 1, "n", "n"), "fill", directory)
        await create(Access(kafka.bootstrap), wanted(first.settings), 1)
        topic = first.settings.kafka_topic
        await fill(kafka.bootstrap, topic, options.rows, DEVICES, headers=True)
        for sink in SINKS if not options.only else [options.only]:
            found[sink] = []
            for number in range(options.runs):
                place = directory / f"{sink.replace('_', '-')}{number}"
                place.mkdir()
                found[sink].append(await _once(kafka.bootstrap, topic, sink, place, options.rows))
            print(line(sink, found[sink]), file=sys.stderr, flush=True)
    return found


async def _once(kafka: str, topic: str, sink: str, place: Path, rows: int) -> Drained:
    async with AsyncExitStack() as stack:
        where = destination(sink, place)
        await where.start()
        stack.push_async_callback(where.stop)
        site = await stack.enter_async_context(site_of(kafka, place.name, topic, place, settings(sink, where)))
        drained = await run(site, sink, rows)
        files = list((place / "parquet").glob("day=*/*.parquet")) if sink == "parquet" else []
        return drained._replace(bytes=sum(file.stat().st_size for file in files) / rows)


def main() -> None:
    """Measure the sinks and the limit of series, and print the table."""
    parser = argparse.ArgumentParser("python -m tools.bench.sinks", description=__doc__)
    parser.add_argument("--only", choices=SINKS)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frozen", type=float, default=0.0, help="seconds that one of two sinks is frozen, instead")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="iot-") as name:
        Path(name).chmod(0o711)  # PostgreSQL may run under another account
        if options.frozen:
            print(json.dumps(uvloop.run(frozen_sink.measure(Path(name), options.frozen)), indent=1))
            return
        found = uvloop.run(bench(options, Path(name)))
    cost, megabytes = series_cost()
    print(
        f"{SERIES:,} series: {cost:.2f} us a record (<= {MOST_SERIES_US}), {megabytes:.0f} MB (<= {MOST_SERIES_MB:g})",
        file=sys.stderr,
    )
    if options.json:
        every = {sink: [one._asdict() for one in runs] for sink, runs in found.items()}
        print(json.dumps({"sinks": every, "series_us": cost, "series_mb": megabytes}))


if __name__ == "__main__":
    main()
