"""The cost of a line at the TCP gateway: parsing alone, by format, and the whole path to a real Kafka's ack.

    python -m tools.bench.gateways_tcp             # both
    python -m tools.bench.gateways_tcp --lines     # parsing alone: seconds, no server

CPU of the gateway's process (user and system), the writer to Kafka included; the sender is another process. Lines of
141 bytes, of 500 devices of one account, on 4 connections.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from app.core.decode.influx_line import Precision
from app.gateways.influx_lines import InfluxReader
from app.gateways.payloads.influx_heads import InfluxNames
from app.gateways.tcp.lines import json_lines
from app.gateways.telemetry_record import Arrival
from app.local.servers.common import free_port
from app.ports import Account
from tests import servers
from tests.conftest import INIT_SQL
from tests.workers import Site
from tools.faults.servers import execute
from tools.faults.ways.setup import open_account

USER, DEVICES, CONNECTIONS = "bench", 500, 4
MUST = 300_000  # the target: JSON lines per CPU second, the writer included
JSON = (
    b'{"device_id":"device-%04d","sequence_id":1%06d,"timestamp":1795226400.123,"temperature":21.53,"battery":87,'
    b'"humidity":41.25,"signal":-70.5}'
)
PLAIN = (
    b"env,device_id=device-%04d,site=oslo temperature=21.53,battery=87i,humidity=41.25,signal=-70.5 179522640012%07d"
)
TEXTS = (
    b'env,device_id=device-%04d,site=oslo temperature=21.53,battery=87i,state="running, fine",ok=true 179522640012%07d'
)
ESCAPED = b"env,device_id=device-%04d,site=new\\ york temperature=21.53,battery=87i,humidity=41.25 179522640012%07d"


def lines(form: bytes, count: int) -> list[bytes]:
    """`count` lines of a form."""
    return [form % (number % DEVICES, number) for number in range(count)]


def per_line(read: Callable[[list[bytes]], object], given: list[bytes]) -> float:
    """Microseconds of CPU per line, the best of several runs."""
    best = float("inf")
    for _ in range(12):
        began = time.process_time()
        for at in range(0, len(given), 500):
            read(given[at : at + 500])
        best = min(best, time.process_time() - began)
    return 1e6 * best / len(given)


def of_lines() -> None:
    """Measure parsing alone: from lines to records."""
    account, arrival = Account(USER), Arrival(b"tcp", 1795226400000)

    def influx(given: list[bytes]) -> object:
        return InfluxReader(Precision.NANOSECONDS, InfluxNames(), account, arrival).read(given)

    def split(given: list[bytes]) -> object:
        return b"\n".join(given).split(b"\n")

    print(f"split alone        {per_line(split, lines(JSON, 5000)):6.2f} us a line")
    print(f"JSON               {per_line(lambda given: json_lines(account, given, arrival), lines(JSON, 5000)):6.2f}")
    for name, form in (("plain", PLAIN), ("with texts", TEXTS), ("with escapes", ESCAPED)):
        print(f"Influx, {name:12}{per_line(influx, lines(form, 5000)):6.2f}")


def cpu(pid: int) -> float:
    """CPU seconds that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def send(port: int, form: bytes, count: int) -> None:
    """Send all lines on several connections, until the lines are acked."""
    body = b"\n".join(lines(form, count)) + b"\n"

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        writer.write(body)
        writer.write_eof()
        answer = (await reader.read()).splitlines()[-1]
        assert answer == b'{"acked":%d}' % count, answer
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def measured(site: Site, form: bytes, kind: str, options: argparse.Namespace) -> list[float]:
    """Microseconds of CPU per line, of each round."""
    site.more, used = {**site.more, "tcp_format": kind}, []
    with site.program("tcp", kind) as gateway:
        await gateway.ready()
        port = int(str(site.more["tcp_port"]))
        await send(port, form, 5000)  # warm-up
        for _ in range(options.rounds):
            before = cpu(gateway.pid)
            await send(port, form, options.count)
            used.append(1e6 * (cpu(gateway.pid) - before) / (options.count * CONNECTIONS))
    return used


async def to_kafka(options: argparse.Namespace, directory: Path) -> None:
    """Measure a gateway process that writes to a real Kafka."""
    with servers.kafka() as kafka, servers.postgres() as postgres, servers.mosquitto() as mosquitto:
        await execute(postgres.dsn, f"CREATE DATABASE {USER}")
        await execute(postgres.dsn_of(USER), INIT_SQL.read_text())
        more = {"tcp_port": free_port(), "gateway_anonymous_account": USER}
        site = Site(kafka.bootstrap, postgres.dsn_of(USER), mosquitto, USER, directory, more)
        await site.prepare([])
        await open_account(site)
        for name, form, kind in (("JSON lines", JSON, "json"), ("Influx lines", PLAIN, "influx")):
            used = await measured(site, form, kind, options)
            middle = statistics.median(used)
            rate = f"{1e6 / middle:,.0f} a CPU second"
            print(f"{name:18} {middle:6.2f} us a line ({min(used):.2f}-{max(used):.2f}), {rate}")
    print(f"must: {MUST:,} JSON lines a CPU second")


def main() -> None:
    """Measure and print as the command line says."""
    parser = argparse.ArgumentParser("python -m tools.bench.gateways_tcp")
    parser.add_argument("--lines", action="store_true", help="reading alone")
    parser.add_argument("--count", type=int, default=100_000, help="lines of a connection")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    of_lines()
    if not options.lines:
        with tempfile.TemporaryDirectory(prefix="iot-") as home:
            Path(home).chmod(0o711)  # PostgreSQL may run under another account
            asyncio.run(to_kafka(options, Path(home)))


if __name__ == "__main__":
    main()
