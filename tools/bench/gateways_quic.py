"""Measure the QUIC gateway on a real Kafka, with certificates on both sides and accounts in a real database.

    python -m tools.bench.gateways_quic [saturated] [steady] [held] [--seconds 10]

saturated: metrics per CPU second of the gateway's process, the writer to Kafka included; batches of 100, 8 connections.
steady: 200 batches a second: the time from the sender's write to the ack (longer than from receipt to Kafka's ack), and
the gateway's own time from a submission to Kafka's ack. held: memory with 1,000 connections, and the CPU of closing.
"""

import argparse
import asyncio
import re
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil
import uvloop

from app.client.quic.credentials import client_configuration
from app.client.quic.session import QuicSession, open_session
from app.local.ingest.certificates import LocalCertificates
from app.local.servers.common import LOOPBACK, free_port
from app.postgres.queries.mqtt_accounts import hashed
from app.postgres.schema.init_sql import INIT_SQL
from app.postgres.schema.init_sql import apply as apply_schema
from app.protobuf.metrics_pb2 import BatchAck, MetricBatch
from tests import servers
from tests.workers import Running, Site

NODE = "node"
BATCH, SENSORS, CONNECTIONS = 100, 500, 8
WINDOW = 16  # batches without an ack on one connection, in `saturated`
RATE = 200.0  # batches a second over all connections, in `steady`
HELD = 1000


class Load:
    """One connection: sends batches and takes the times of their acks."""

    def __init__(self) -> None:
        self.session: QuicSession
        self.took: list[float] = []
        self.acked = 0
        self._sent: dict[int, float] = {}
        self._room = asyncio.Event()

    def hear(self, _: int, answer: BatchAck) -> None:
        """Take the time of an ack."""
        assert answer.accepted == BATCH, answer
        self.took.append(time.perf_counter() - self._sent.pop(answer.batch_id))
        self.acked += 1
        self._room.set()

    async def run(self, number: int, seconds: float, rate: float | None) -> None:
        """Send for `seconds`: `rate` batches a second, or as many as WINDOW allows."""
        stream, began, count = self.session.open_stream(), time.perf_counter(), 0
        made = Body(number)
        while time.perf_counter() - began < seconds:
            count += 1
            self._sent[count] = time.perf_counter()
            self.session.send(stream, made(count))
            if rate:
                await asyncio.sleep(max(0.0, began + count / rate - time.perf_counter()))
            while not rate and len(self._sent) >= WINDOW:
                self._room.clear()
                await self._room.wait()
        while self._sent:
            self._room.clear()
            await self._room.wait()


class Body:
    """Serializes batch number n: the same metrics with new sequence numbers."""

    def __init__(self, connection: int) -> None:
        self._batch = MetricBatch()
        for at in range(BATCH):
            one = self._batch.metrics.add()
            one.node_id, one.sensor_id = NODE, f"sensor-{(connection * BATCH + at) % SENSORS}"
            one.value, one.time_us = 20.0 + at / 7, time.time_ns() // 1000 + at

    def __call__(self, number: int) -> bytes:
        self._batch.batch_id = number
        for at, metric in enumerate(self._batch.metrics):
            metric.sequence_id = number * BATCH + at + 1
        return self._batch.SerializeToString()


@asynccontextmanager
async def gateway(directory: Path, **more: object) -> AsyncIterator[tuple[Running, Site, LocalCertificates]]:
    """A running gateway with its servers."""
    certificates = LocalCertificates(directory / "certificates")
    certificates.make(NODE)
    with servers.kafka() as kafka, servers.postgres() as postgres:
        settings = {
            "quic_port": free_port(),
            "quic_certificate_file": certificates.server,
            "quic_key_file": certificates.server_key,
            "quic_ca_file": certificates.ca,
            **more,
        }
        nowhere = servers.GivenMqtt(LOOPBACK, 1883, "", "")
        site = Site(kafka.bootstrap, postgres.dsn, nowhere, "bench", directory, settings)
        await apply_schema(postgres.dsn, INIT_SQL)
        await site.prepare([])
        await site.fetch(
            "INSERT INTO mqtt_users (username, user_id, password_hash) VALUES ($1, $1, $2)", NODE, hashed("none")
        )
        with site.program("quic") as program:
            await program.ready()
            yield program, site, certificates


async def opened(site: Site, certificates: LocalCertificates, stack: AsyncExitStack) -> Load:
    """Open one more connection."""
    load = Load()
    made = client_configuration(certificates.ca, certificates.client, certificates.client_key, "localhost")
    load.session = await open_session((LOOPBACK, site.settings.quic_port), made, load.hear)
    stack.callback(load.session.close)
    return load


def cpu(pid: int) -> float:
    """CPU seconds that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def measure(seconds: float, rate: float | None) -> None:
    """Measure eight connections for `seconds`."""
    with tempfile.TemporaryDirectory() as directory:
        async with gateway(Path(directory)) as (program, site, certificates), AsyncExitStack() as stack:
            loads = [await opened(site, certificates, stack) for _ in range(CONNECTIONS)]
            each = rate / CONNECTIONS if rate else None
            await run(loads, 1.0, each)  # caches, and the first connections of the writer
            for load in loads:
                load.took.clear()
            used, began, before = cpu(program.pid), time.perf_counter(), sum(load.acked for load in loads)
            await run(loads, seconds, each)
            used, wall = cpu(program.pid) - used, time.perf_counter() - began
            count = BATCH * (sum(load.acked for load in loads) - before)
            took = sorted(one * 1000 for load in loads for one in load.took)
            print(
                f"{count:,} metrics in {wall:.1f} s, {used:.2f} CPU s of the gateway = {count / used:,.0f} a CPU second"
                f" ({1e6 * used * BATCH / count:.0f} us a batch); send to ack p50 {statistics.median(took):.1f} ms,"
                f" p99 {took[int(0.99 * len(took))]:.1f} ms; {memory(program):.0f} MB"
            )
            print(await acks(program))


async def run(loads: Sequence[Load], seconds: float, rate: float | None) -> None:
    """Send on all connections at once."""
    await asyncio.gather(*(load.run(number, seconds, rate) for number, load in enumerate(loads)))


async def acks(program: Running) -> str:
    """The gateway's own histogram of the time from a submission to Kafka's ack, in words."""
    _, text = await program.get("/metrics")
    found = re.findall(r'iot_gateway_ack_seconds_bucket\{gateway="quic",le="([^"]+)"\} ([0-9.e+]+)', text)
    total = float(found[-1][1]) if found else 0.0
    shares = ", ".join(f"{100 * float(count) / total:.1f} % within {bound} s" for bound, count in found[:7] if total)
    return f"submission to Kafka's ack: {shares}"


async def held() -> None:
    """Measure a thousand almost idle connections."""
    with tempfile.TemporaryDirectory() as directory:
        async with (
            gateway(Path(directory), quic_account_connections=HELD + 10, quic_handshakes_per_second=1e6) as parts,
            AsyncExitStack() as stack,
        ):
            program, site, certificates = parts
            await run([await opened(site, certificates, stack)], 1.0, 20.0)
            before, used = memory(program), cpu(program.pid)
            loads = [await opened(site, certificates, stack) for _ in range(HELD)]
            shaken = cpu(program.pid) - used
            await asyncio.gather(*(load.run(number, 0.5, 2.0) for number, load in enumerate(loads)))
            after = memory(program)
            print(
                f"{HELD} connections: {after:.0f} MB ({(after - before) * 1000 / HELD:.0f} kB each);"
                f" {1000 * shaken / HELD:.2f} ms of CPU a handshake"
            )
            await asyncio.sleep(1)
            used = cpu(program.pid)
            for load in loads:
                load.session.close()
            await asyncio.sleep(3)
            print(f"ending each: {1000 * (cpu(program.pid) - used) / HELD:.2f} ms; then {memory(program):.0f} MB")


def memory(program: Running) -> float:
    """Resident memory in MB."""
    return float(psutil.Process(program.pid).memory_info().rss) / 1e6


async def main(parts: Sequence[str], seconds: float) -> None:
    """Run the chosen parts in order."""
    for part in parts:
        print(f"{part}:")
        if part == "held":
            await held()
        else:
            await measure(seconds, RATE if part == "steady" else None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["saturated", "steady", "held"])
    parser.add_argument("--seconds", type=float, default=10.0)
    chosen = parser.parse_args()
    uvloop.run(main(chosen.parts, chosen.seconds))
