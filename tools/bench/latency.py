"""Latency from MQTT publish to a row that another session can read, at a steady rate, through bridge and worker.

    python -m tools.bench.latency [--rate 1000 ...] [--seconds 20] [--devices 100] [--runs 1]

Open loop: latency starts at the scheduled time of a message (devices.py), so that a stall shows even where it reduces
the rate. A database session queries new rows every 2 ms (watch.py); the time from one answer to the next is printed,
and half of that time is the error of the method. 3 s of warm-up are not counted. The line `hops` has the latency of
each hop: to the bridge, to Kafka's log, to the row; the next line has the worker's own means.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from app.kafka.access import Access
from app.kafka.topics import TopicSpec, create, wanted
from tests import servers
from tests.workers import ROOT, Running, Site
from tools.bench import hops
from tools.bench.end_to_end import empty, prepare
from tools.bench.watch import Load, Watch

WARM_UP = 3.0  # seconds
STAGES = ("process", "wait", "store", "finish")


@dataclass(frozen=True)
class Result:
    """The result of one run; `cpu` in seconds by program, over `seconds`."""

    watch: Watch
    late: Mapping[str, float]
    cpu: Mapping[str, float]
    seconds: float
    metrics: tuple[hops.Metrics, hops.Metrics]
    arrivals: Mapping[int, tuple[float, float]]

    def milliseconds(self) -> tuple[float, float, float, float]:
        """p50, p90, p99 and max from publish to row, in ms."""
        return quantiles(self.watch.counted())


class Bench:
    """Running servers and programs, for one measurement after another."""

    def __init__(self, site: Site, worker: Running, pids: Mapping[str, int]) -> None:
        self._site, self._worker, self._pids = site, worker, pids

    async def measure(self, load: Load) -> Result:
        """Publish messages and take the times at which their rows are visible."""
        site = self._site
        topic = site.settings.kafka_topic
        await empty(site.database)
        begin = await site.ends()
        fleet = await self._publish(load)
        assert fleet.stdout
        watch = Watch(json.loads(await fleet.stdout.readline())["start"], load)
        await watch.until(load.skip, site.database)
        before, cpu = await hops.read(self._worker), self._cpu()
        watch.cycles.clear()
        await watch.until(load.count, site.database)
        used = {name: now - cpu[name] for name, now in self._cpu().items()}
        metrics = before, await hops.read(self._worker)
        late = json.loads(await fleet.stdout.readline())
        assert await fleet.wait() == 0
        arrivals = await hops.arrivals(site.kafka, topic, begin, await site.ends())
        return Result(watch, late, used, (load.count - load.skip) / load.rate, metrics, arrivals)

    async def _publish(self, load: Load) -> asyncio.subprocess.Process:
        mqtt = self._site.mqtt
        command = ["-m", "tools.bench.devices", "--host", mqtt.host, "--port", str(mqtt.port)]
        command += ["--username", mqtt.username, "--rate", str(load.rate)]
        command += ["--count", str(load.count), "--devices", str(load.devices)]
        return await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "MQTT_PASSWORD": mqtt.password},
        )  # fmt: skip

    def _cpu(self) -> dict[str, float]:
        return {name: hops.cpu(pid) for name, pid in self._pids.items()}


def quantiles(seconds: list[float]) -> tuple[float, float, float, float]:
    """p50, p90, p99 and max in milliseconds."""
    ordered = sorted(seconds)
    p50, p90, p99 = (1000 * ordered[int(part * len(ordered))] for part in (0.5, 0.9, 0.99))
    return p50, p90, p99, 1000 * ordered[-1]


def report(result: Result) -> None:
    """Print the latency of a run, the CPU used and the latency of each hop."""
    load, watch = result.watch.load, result.watch
    p50, p90, p99, most = result.milliseconds()
    print(
        f"{load.rate:,.0f} msg/s, {load.devices} devices, {len(watch.counted()):,} messages in {result.seconds:.0f} s"
    )
    print(f"  publish -> row  p50 {p50:.1f}  p90 {p90:.1f}  p99 {p99:.1f}  max {most:.1f} ms")
    looked = 1000 * statistics.mean(watch.cycles)
    print(
        f"  of which        queries add {looked / 2:.1f} ms (an answer every {looked:.1f}); "
        f"sent late by p50 {1000 * result.late['p50']:.1f}  p99 {1000 * result.late['p99']:.1f} ms"
    )
    per = ", ".join(f"{name} {used:.2f}" for name, used in result.cpu.items())
    print(f"  CPU seconds     {per}")
    print(f"  hops            {_hops(result)}")
    print(f"  worker, means   {_stages(result)}", flush=True)


def _hops(result: Result) -> str:
    """Median and 99th percentile of each hop."""
    numbers = range(result.watch.load.skip, result.watch.load.count)
    at = [(0.0, *result.arrivals[number], result.watch.latency[number] or 0.0) for number in numbers]
    names = ("to bridge", "to Kafka", "to row")
    found = []
    for index, name in enumerate(names):
        p50, _, p99, _ = quantiles([stations[index + 1] - stations[index] for stations in at])
        found.append(f"{name} {p50:.1f} / {p99:.1f}")
    return "; ".join(found) + " ms (p50 / p99)"


def _stages(result: Result) -> str:
    before, after = result.metrics
    rows = hops.mean(before, after, "iot_batch_rows")
    write = 1000 * hops.mean(before, after, "iot_db_write_seconds")
    stages = []
    for stage in STAGES:
        took = hops.mean(before, after, "iot_batch_seconds", f'{{stage="{stage}"}}')
        stages.append(f"{stage} {1000 * took:.1f}")
    batches, writes = (
        (after[f"{name}_count"] - before.get(f"{name}_count", 0)) / result.seconds
        for name in ("iot_batch_rows", "iot_db_write_seconds")
    )
    return (
        f"{batches:.0f} batches/s of {rows:.1f} rows, {writes:.0f} transactions/s; "
        f"{', '.join(stages)}, one transaction {write:.1f} ms"
    )


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    """Servers on free ports, a bridge and a worker, all started and ready."""
    with ExitStack() as stack:
        kafka = stack.enter_context(servers.kafka())
        postgres = stack.enter_context(servers.postgres())
        mqtt = stack.enter_context(servers.mosquitto())
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="iot-bench-"))
        site = Site(kafka.bootstrap, postgres.dsn, mqtt, "latency", Path(home), {"log_level": "INFO"})
        await prepare(site.database)
        await create(Access(site.kafka), _stamped_by_the_broker(site), 1)
        programs = {name: stack.enter_context(site.program(name)) for name in ("bridge", "worker")}
        for program in programs.values():
            await program.ready()
        owned = {"kafka": kafka, "postgres": postgres, "mosquitto": mqtt}
        pids = {name: program.pid for name, program in programs.items()}
        pids |= {name: pid for name, server in owned.items() if (pid := getattr(server, "pid", None))}
        yield Bench(site, programs["worker"], pids)
        for program in programs.values():
            program.stop()


def _stamped_by_the_broker(site: Site) -> list[TopicSpec]:
    """The topics; the input topic has message.timestamp.type=LogAppendTime."""
    return [
        each._replace(config={**each.config, "message.timestamp.type": "LogAppendTime"})
        if each.name == site.settings.kafka_topic
        else each
        for each in wanted(site.settings)
    ]


async def run(rates: list[float], seconds: float, devices: int, runs: int) -> list[Result]:
    """Measure every rate `runs` times and print each result."""
    results = []
    async with running() as bench:
        for rate in rates:
            for _ in range(runs):
                load = Load(rate, int(rate * WARM_UP), int(rate * (WARM_UP + seconds)), devices)
                results.append(await bench.measure(load))
                report(results[-1])
    return results


def main() -> None:
    """Run with the options of the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, nargs="+", default=[1000.0], help="messages a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    uvloop.run(run(options.rate, options.seconds, options.devices, options.runs))


if __name__ == "__main__":
    main()
