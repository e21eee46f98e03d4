"""The cost of an event at each gateway: CPU of the gateway's process, including its writer to a real Kafka.

    python -m tools.bench.gateways                                  # all, four minutes
    python -m tools.bench.gateways --seconds 2 --rounds 1           # all, short, two minutes
    python -m tools.bench.gateways --only http --seconds 4 --rounds 5 --json

Each case runs against the gateway and against a bare server of the same library (tools/bench/ways/floors.py), in turns;
the figures are medians. "There" is an estimate for the machine on which the targets were set: the bare server's figure
on that machine, times the ratio gateway / bare server on this machine. The senders' CPU is not counted. The last cases
measure QUIC alone: memory with 1,000 connections, and the time from a batch to its ack at 200 batches a second.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import psutil
import uvloop
from aioquic.asyncio.client import connect

from app.local.layout import WAYS
from app.local.servers.common import free_port
from tests import servers
from tests.conftest import INIT_SQL
from tests.workers import Site
from tools.bench.ways import loads
from tools.faults.servers import execute
from tools.faults.ways.setup import Door, door, open_account

USER = "bench"
HELD = 1000  # connections of QUIC


class Case(NamedTuple):
    """One way of sending. `reference`: microseconds per event of the bare server on the machine of the targets;
    `least`: the target in events per CPU second on that machine; `share`: the target as a share of the bare rate.
    """

    way: str
    name: str
    load: loads.Load
    reference: float
    least: float | None = None
    share: float | None = None


# The references are of bare servers without a writer, measured when the libraries were chosen: aiohttp on uvloop; an
# asyncio Protocol on uvloop; grpcio.aio on uvloop and a UNIX socket, with acks; aioquic on uvloop without client
# certificates, which aioquic's server cannot request.
CASES = [
    Case("http", "one event a request", loads.http_single, 51.0, share=0.75),
    Case("http", "one event, changing head", loads.http_changing, 51.0),
    Case("http", "NDJSON, 500 a request", loads.http_lines, 1.97, least=230_000),
    Case("http", "protobuf, 500 a request", loads.http_protobuf, 2.13, least=200_000),
    Case("tcp", "JSON lines", loads.tcp_lines, 1.44, least=300_000),
    Case("grpc", "500 a message, streamed", loads.grpc_stream, 1.93, least=230_000),
    Case("grpc", "500 a message, unary", loads.grpc_unary, 2.96, least=180_000),
    Case("quic", "mTLS, frames of 100", loads.quic_frames, 7.6, least=75_000),
]


class Figure(NamedTuple):
    """The result of a case."""

    case: Case
    gateway: Sequence[float]  # microseconds an event, of each round
    floor: Sequence[float]

    @property
    def rate(self) -> float:
        """Events per CPU second of the gateway."""
        return 1e6 / statistics.median(self.gateway)

    @property
    def share(self) -> float:
        """The gateway's rate as a share of the bare server's, the median over pairs of consecutive runs."""
        return statistics.median([floor / own for own, floor in zip(self.gateway, self.floor, strict=True)])

    @property
    def scaled(self) -> float:
        """Estimated microseconds per event on the machine of the targets: `reference` times the ratio measured here."""
        return self.case.reference / self.share

    @property
    def reached(self) -> bool:
        """Whether the case reaches its target on this machine."""
        return self.rate >= (self.case.least or 0) and self.share >= (self.case.share or 0)

    @property
    def must(self) -> str:
        """The target in words."""
        if self.case.least:
            return f">= {self.case.least:,.0f}"
        return f">= {self.case.share} of bare" if self.case.share else "no target"


def cpu(pid: int) -> float:
    """CPU seconds that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def cost(pid: int, load: loads.Load, to: Door, seconds: float) -> float:
    """Microseconds of CPU per event, after a short warm-up."""
    await load(to, 0.5)
    before = cpu(pid)
    count = await load(to, seconds)
    return (cpu(pid) - before) / count * 1e6


@asynccontextmanager
async def bare(way: str, beside: Door, directory: Path) -> AsyncIterator[tuple[int, Door]]:
    """A bare server while the context lasts: (its process id, its door)."""
    made = replace(
        beside, http_port=free_port(), tcp_port=free_port(), quic_port=free_port(), grpc_socket=directory / "bare.sock"
    )
    address = {"http": made.http_port, "tcp": made.tcp_port, "quic": made.quic_port, "grpc": made.grpc_socket}[way]
    files = [made.certificates.server, made.certificates.server_key] if way == "quic" else []
    command = [sys.executable, "-m", "tools.bench.ways.floors", way, str(address), *map(str, files)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout
        assert await process.stdout.readline() == b"serving\n"
        yield process.pid, made
    finally:
        process.kill()
        await process.wait()


async def measured(site: Site, entrance: Door, cases: Sequence[Case], options: argparse.Namespace) -> list[Figure]:
    """Measure all cases of one way, the gateway and the bare server in turns."""
    way, found = cases[0].way, []
    with site.program(way) as gateway:
        await gateway.ready()
        async with bare(way, entrance, site.directory) as (pid, floor):
            for case in cases:
                own, other = list[float](), list[float]()
                for number in range(options.rounds):
                    turns = [(own, gateway.pid, entrance), (other, pid, floor)]
                    for results, process, to in turns if number % 2 else reversed(turns):
                        results.append(await cost(process, case.load, to, options.seconds))
                found.append(Figure(case, own, other))
                print(line(found[-1]), flush=True, file=sys.stderr)
    return found


def line(figure: Figure) -> str:
    """The line of a case in the table."""
    own, floor = statistics.median(figure.gateway), statistics.median(figure.floor)
    case, spread = figure.case, f"{min(figure.gateway):.2f}-{max(figure.gateway):.2f}"
    return (
        f"{case.way:5} {case.name:24} {own:7.2f} us ({spread:>13}) {figure.rate:10,.0f}/CPU s   bare {floor:7.2f} us"
        f"   {figure.share:4.2f} of bare   {figure.scaled:6.2f} us there   {case_must(figure)}"
    )


def case_must(figure: Figure) -> str:
    """The target of a case, and whether the case reaches the target."""
    return f"{figure.must:18} {'ok' if figure.reached else 'MISSED'}"


async def of_quic(site: Site, entrance: Door) -> dict[str, float]:
    """Memory with HELD connections; milliseconds to the ack at 200 batches a second."""
    with site.program("quic") as gateway:
        await gateway.ready()
        took = sorted(await loads.quic_paced(entrance, 10.0))
        found = {"p50_ms": 1e3 * took[len(took) // 2], "p99_ms": 1e3 * took[len(took) * 99 // 100]}
        process = psutil.Process(gateway.pid)
        before = process.memory_info().rss
        async with AsyncExitStack() as stack:
            for _ in range(HELD):
                client = connect(loads.LOOPBACK, entrance.quic_port, configuration=loads.configuration(entrance))
                await stack.enter_async_context(client)
            await asyncio.sleep(2)
            found |= {"idle_mb": before / 1e6, "held_mb": process.memory_info().rss / 1e6}
            print(f"quic  {HELD:,} connections held: {found['held_mb']:.0f} MB (must be below 200)", file=sys.stderr)
            gateway.close()  # faster than a thousand single closes
    print(
        f"quic  200 batches/s: ack p50 {found['p50_ms']:.1f} ms (< 10), p99 {found['p99_ms']:.1f} ms (< 40)",
        file=sys.stderr,
    )
    return found


async def run(options: argparse.Namespace, directory: Path) -> tuple[list[Figure], dict[str, float]]:
    """Start the servers and run the cases that the options select."""
    ways = [way for way in WAYS if options.only in ("", way)]
    with ExitStack() as stack:
        kafka, postgres = stack.enter_context(servers.kafka()), stack.enter_context(servers.postgres())
        mosquitto = stack.enter_context(servers.mosquitto())
        await execute(postgres.dsn, f"CREATE DATABASE {USER}")
        await execute(postgres.dsn_of(USER), INIT_SQL.read_text())
        entrance = door(USER, directory / "ways")
        site = Site(kafka.bootstrap, postgres.dsn_of(USER), mosquitto, USER, directory, entrance.settings)
        await site.prepare([])
        await open_account(site)
        found = [one for way in ways for one in await measured(site, entrance, of(way), options)]
        return found, await of_quic(site, entrance) if "quic" in ways else {}


def of(way: str) -> list[Case]:
    """The cases of a way."""
    return [case for case in CASES if case.way == way]


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser("python -m tools.bench.gateways", description=__doc__)
    parser.add_argument("--only", default="", choices=["", *WAYS], help="one way alone")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="gateway and bare server, in turns")
    parser.add_argument("--json", action="store_true", help="for a machine, on stdout")
    return parser


def main() -> None:
    """Measure, and print the table."""
    options, began = arguments().parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="iot-") as home:
        Path(home).chmod(0o711)  # PostgreSQL may run under another account
        found, quic = uvloop.run(run(options, Path(home)))
    if options.json:
        rows = [
            {"way": one.case.way, "case": one.case.name, "us": one.gateway, "bare_us": one.floor, "events_per_cpu_s":
             one.rate, "share": one.share, "scaled_us": one.scaled, "reached": one.reached}
            for one in found
        ]  # fmt: skip
        print(json.dumps({"cases": rows, "quic": quic, "seconds": time.monotonic() - began}))
    else:
        print("\n".join(line(one) for one in found))
        print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
