"""The cost of a metric at the gRPC gateway: decoding alone, and the whole path to Kafka's ack, on a UNIX socket.

    python -m tools.bench.gateways_grpc                 # against a real Kafka
    python -m tools.bench.gateways_grpc --seconds 4 --rounds 7

CPU of the gateway's process (user and system), the writer to Kafka included; the sender is another process. Metrics of
500 sensors of one account, 500 per message: a stream with 16 messages in flight, and 8 concurrent unary calls. The last
two lines have one metric per message.
"""

import argparse
import asyncio
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from grpc import aio

from app.gateways.protobuf_records import metrics
from app.gateways.telemetry_record import Arrival
from app.ports import Account
from app.protobuf.ingest_pb2 import PushMetricsRequest
from app.protobuf.metrics_pb2 import BatchAck, Metric, MetricBatch
from tests import servers
from tests.conftest import INIT_SQL, _execute
from tests.integration.bridges import create_topics, program

if TYPE_CHECKING:
    from grpc.aio import StreamStreamMultiCallable, UnaryUnaryMultiCallable

USER, SENSORS, BATCH = "bench", 500, 500
STREAMED, UNARY = 230_000, 180_000  # the targets, metrics per CPU second
AHEAD, CALLS = 16, 8
VARIANTS = 20  # different batches, sent in turns
TIME_US = 1_795_226_400_000_000
SERVICE = "/iot_stream.ingest.v1.Ingest"

Load = Callable[[Path, int, float], Coroutine[None, None, int]]


def batches(size: int) -> list[MetricBatch]:
    """VARIANTS batches of `size` metrics; no two metrics are equal."""
    return [
        MetricBatch(
            batch_id=variant,
            metrics=[
                Metric(
                    node_id=USER,
                    sensor_id=f"sensor-{(variant * size + at) % SENSORS:04}",
                    value=21.53 + at / 100,
                    time_us=TIME_US + 1000 * at,
                    sequence_id=1_000_000 + variant * size + at,
                )
                for at in range(size)
            ],
        )
        for variant in range(VARIANTS)
    ]


def of_decoding() -> float:
    """Microseconds per metric from its bytes to its record."""
    account, arrival, best = Account(USER), Arrival(b"grpc", TIME_US // 1000), float("inf")
    data = batches(BATCH)[0].SerializeToString()
    for _ in range(30):
        began = time.process_time()
        for _ in range(10):
            metrics(account, data, arrival)
        best = min(best, time.process_time() - began)
    return 1e6 * best / (10 * BATCH)


async def streamed(path: Path, size: int, seconds: float) -> int:
    """Send on one stream for `seconds`; the number of acknowledged metrics."""
    bodies = itertools.cycle([batch.SerializeToString() for batch in batches(size)])
    until, count, room = time.monotonic() + seconds, 0, asyncio.Semaphore(AHEAD)
    async with aio.insecure_channel(f"unix:{path}") as channel:
        calls: StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"{SERVICE}/StreamMetrics")
        call = calls()

        async def write() -> None:
            while time.monotonic() < until:
                await room.acquire()
                await call.write(next(bodies))
            await call.done_writing()

        writing = asyncio.create_task(write())
        while isinstance(answer := await call.read(), bytes):  # aio.EOF is no bytes
            count += BatchAck.FromString(answer).accepted
            room.release()
        await writing
    return count


async def unary(path: Path, size: int, seconds: float) -> int:
    """Send by concurrent unary calls for `seconds`; the number of acknowledged metrics."""
    bodies = itertools.cycle([PushMetricsRequest(batch=batch).SerializeToString() for batch in batches(size)])
    until = time.monotonic() + seconds
    async with aio.insecure_channel(f"unix:{path}") as channel:
        call: UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{SERVICE}/PushMetrics")

        async def push() -> int:
            count = 0
            while time.monotonic() < until:
                count += BatchAck.FromString(await call(next(bodies))).accepted
            return count

        return sum(await asyncio.gather(*(push() for _ in range(CALLS))))


CASES: dict[str, tuple[Load, int, int]] = {
    "streamed": (streamed, BATCH, STREAMED),
    "unary": (unary, BATCH, UNARY),
    "streamed-single": (streamed, 1, 0),
    "unary-single": (unary, 1, 0),
}


def sent(case: str, path: Path, seconds: float) -> int:
    """Run a sender in its own process; the number of acknowledged metrics."""
    command = [sys.executable, "-m", "tools.bench.gateways_grpc", "--send", case, "--socket", str(path)]
    done = subprocess.run([*command, "--seconds", str(seconds)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def cpu(pid: int) -> float:
    """CPU seconds that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def to_kafka(seconds: float, rounds: int) -> None:
    """Measure a gateway process that writes to a real Kafka, the cases in turns."""
    found: dict[str, list[float]] = {case: [] for case in CASES}
    with servers.kafka() as kafka, servers.postgres() as postgres, tempfile.TemporaryDirectory() as directory:
        await create_topics(kafka.bootstrap, "bench", "bench-dlq")
        await _execute(postgres.dsn, "CREATE DATABASE bench_grpc")
        database = postgres.dsn_of("bench_grpc")
        await _execute(database, INIT_SQL.read_text())
        await _execute(
            database, f"INSERT INTO mqtt_users (username, user_id, password_hash) VALUES ('{USER}', '{USER}', '')"
        )
        path = Path(directory) / "grpc.sock"
        settings = {
            "kafka_broker": kafka.bootstrap, "kafka_topic": "bench", "kafka_dlq_topic": "bench-dlq",
            "database_url": database, "grpc_socket": path, "gateway_anonymous_account": USER,
        }  # fmt: skip
        with program("grpc", Path(directory) / "log", **settings) as gateway:
            await gateway.logged("gateways_started")
            for case in CASES:
                await asyncio.to_thread(sent, case, path, 0.5)  # connect and warm up
            for _ in range(rounds):
                for case, costs in found.items():
                    before = cpu(gateway.pid)
                    count = await asyncio.to_thread(sent, case, path, seconds)
                    costs.append(1e6 * (cpu(gateway.pid) - before) / count)
            rss = psutil.Process(gateway.pid).memory_info().rss / 1e6
    for case, costs in found.items():
        middle, must = statistics.median(costs), CASES[case][2]
        said = f"  must: {must:,}, {'reached' if 1e6 / middle >= must else 'MISSED'}" if must else ""
        spread = f"({min(costs):.2f}-{max(costs):.2f})"
        print(f"{case:16} {middle:7.2f} us a metric {spread:>15}, {1e6 / middle:>9,.0f} a CPU second{said}")
    print(f"memory           {rss:7.0f} MB at the end")


def main() -> None:
    """Measure decoding alone, then the whole path, and print the figures."""
    parser = argparse.ArgumentParser("python -m tools.bench.gateways_grpc")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a case in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--send", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--socket", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        load, size, _ = CASES[options.send]
        print(asyncio.run(load(options.socket, size, options.seconds)))
        return
    print(f"decoding alone   {of_decoding():7.2f} us a metric")
    asyncio.run(to_kafka(options.seconds, options.rounds))


if __name__ == "__main__":
    main()
