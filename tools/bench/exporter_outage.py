"""Workers that trace every message to a collector that is out of order, beside one with a collector that works.

    python -m tools.bench.exporter_outage --minutes 60 --rate 100

Five workers read one topic, each with its own app and database, while messages come at a steady low rate. The
collectors of four of them take the spans, never answer, refuse the connection, and answer 500; one worker does not
trace. Prints of each worker the rows stored of the messages sent, the largest backlog, the memory after the warm-up and
at the end, the CPU and the spans dropped. Exits with 1 when a row is missing or there twice, when a worker in an outage
has or gains `--more` MB above the worker whose collector takes the spans, or when the outage was none: a collector that
was not asked, or a worker that dropped no span.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from app.kafka import topics
from app.kafka.access import Access
from app.local.servers.common import free_port
from app.settings import Settings
from tools.bench import end_to_end
from tools.bench.load import reading
from tools.bench.outage_outcome import Outcome, Sample, table
from tools.bench.subject import Subject, worker

TOPIC = "outage"
DEVICES = 500
STEP = 0.1  # seconds between two sends
SPACING = 0.001  # seconds of event time between two readings of tools.bench.load
EVERY = 10.0  # seconds between two samples
PATIENCE = 120.0  # seconds for the last rows, and for the first
TAKES, HANGS, REFUSES, FAILS, OFF = "takes", "hangs", "refuses", "fails", "off"


class Load:
    """Messages to the topic at a steady rate, all of them acknowledged by Kafka before they count as sent."""

    def __init__(self, kafka: str, rate: float) -> None:
        self._kafka, self._rate = kafka, rate
        self.sent = 0

    async def send(self, seconds: float) -> None:
        """Send for so many seconds; a machine that was busy is caught up with."""
        async with AIOKafkaProducer(bootstrap_servers=self._kafka, enable_idempotence=True) as producer:
            began = time.monotonic()
            while (at := time.monotonic() - began) < seconds:
                wanted = int(at * self._rate)
                waiting = []
                for number in range(self.sent, wanted):
                    key, value = reading(number, DEVICES, time.time() - number * SPACING, 100)
                    waiting.append(await producer.send(TOPIC, value, key=key))
                await asyncio.gather(*waiting)
                self.sent = max(self.sent, wanted)
                await asyncio.sleep(STEP)


class Measured:
    """One worker of the run, what is known of its collector, and its samples."""

    def __init__(self, name: str, subject: Subject, database: str) -> None:
        self.name, self.subject, self.database = name, subject, database
        self.samples: list[Sample] = []

    def sample(self, at: float, sent: int) -> None:
        """Add a sample; `at`: seconds since the load began. Raises ChildProcessError when the worker has ended."""
        rss, found = self.subject.rss(), self.subject.metrics()
        if found:
            dropped = found.get("iot_trace_spans_dropped_total", 0.0)
            stored = found.get("iot_rows_stored_total", 0.0)
            self.samples.append(Sample(at, rss, self.subject.cpu(), sent - stored, dropped))

    async def rows(self) -> tuple[int, int]:
        """(rows in the table, different messages among them)."""
        connection = await asyncpg.connect(self.database)
        try:
            found = await connection.fetchrow("SELECT count(*), count(DISTINCT sequence_id) FROM raw_telemetry")
        finally:
            await connection.close()
        assert found is not None
        return found[0], found[1]

    async def outcome(self, sent: int, asked: int | None) -> Outcome:
        """Wait for the last rows, PATIENCE seconds at most, and sum up. `asked`: requests the collector got."""
        deadline = time.monotonic() + PATIENCE
        rows, messages = await self.rows()
        while messages < sent and time.monotonic() < deadline:
            await asyncio.sleep(1)
            rows, messages = await self.rows()
        return Outcome(self.name, sent, rows, messages, asked, tuple(self.samples))


async def measure(workers: list[Measured], load: Load, minutes: float, quiet: bool) -> None:
    """Send, and sample each worker every EVERY seconds. Raises ChildProcessError and TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while not all([await asyncio.to_thread(one.subject.metrics) for one in workers]):
        if time.monotonic() > deadline:
            raise TimeoutError(f"a worker did not start in {PATIENCE:.0f} s")
        await asyncio.sleep(0.5)
    began, sending = time.monotonic(), asyncio.create_task(load.send(minutes * 60))
    while not sending.done():
        at = time.monotonic() - began
        for one in workers:
            await asyncio.to_thread(one.sample, at, load.sent)
        if not quiet and int(at / 60) > int((at - EVERY) / 60):
            print(f"  {at / 60:4.0f} min " + "  ".join(f"{one.name} {one.subject.rss():.0f} MB" for one in workers))
            sys.stdout.flush()
        await asyncio.wait([sending], timeout=max(0.0, began + at + EVERY - time.monotonic()))
    sending.result()


async def prepared(database: str, name: str) -> str:
    """The URL of a new database `name` on the server of `database`, with schema and rules."""
    connection = await asyncpg.connect(database)
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    made = f"{database.rpartition('/')[0]}/{name}"
    await end_to_end.prepare(made)
    return made


def traced(endpoint: str, protocol: str) -> Mapping[str, str]:
    """The variables of a worker that traces every message, whatever its sender decided."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_TRACES_SAMPLER": "always_on",
    }


@contextmanager
def started(kafka: str, database: str, home: str, name: str, more: Mapping[str, str]) -> Iterator[Measured]:
    """A worker with its own app, topics and database."""
    url = asyncio.run(prepared(database, name))
    settings = Settings(
        app=name, kafka_broker=kafka, kafka_topic=TOPIC, database_url=SecretStr(url), metrics_port=free_port()
    )
    asyncio.run(topics.create(Access(kafka), topics.wanted(settings), 1))
    Path(home, name).mkdir()
    with worker(settings, f"{home}/{name}", {**more, "IOT_LOG_LEVEL": "WARNING"}) as subject:
        yield Measured(name, subject, url)


def run(options: argparse.Namespace) -> list[Outcome]:
    """Start servers, collectors and workers, measure, stop them."""
    from tests.otlp import Mode, closed_endpoint, receiver

    modes = {TAKES: Mode.TAKE, HANGS: Mode.HANG, FAILS: Mode.FAIL}
    with end_to_end.servers() as (kafka, postgres, home), ExitStack() as stack:
        collectors = {name: stack.enter_context(receiver(keep=False)) for name in modes}
        endpoints = {REFUSES: closed_endpoint()}
        for name, each in collectors.items():
            each.mode = modes[name]
            endpoints[name] = each.environment(options.protocol)["OTEL_EXPORTER_OTLP_ENDPOINT"]
        workers = []
        for name in (TAKES, HANGS, REFUSES, FAILS, OFF):
            more = traced(endpoints[name], options.protocol) if name in endpoints else {}
            workers.append(stack.enter_context(started(kafka.bootstrap, postgres.dsn, home, name, more)))
        load = Load(kafka.bootstrap, options.rate)
        asyncio.run(measure(workers, load, options.minutes, options.quiet))
        asked = {name: each.requests for name, each in collectors.items()}
        print(f"the collector that takes them got {collectors[TAKES].taken:,} spans")
        return asyncio.run(summed_up(workers, load.sent, asked))


async def summed_up(workers: list[Measured], sent: int, asked: Mapping[str, int]) -> list[Outcome]:
    """The outcome of each worker."""
    return [await one.outcome(sent, asked.get(one.name)) for one in workers]


def parser() -> argparse.ArgumentParser:
    """Options and their defaults."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--minutes", type=float, default=60)
    made.add_argument("--rate", type=float, default=100, help="messages a second, to each worker")
    made.add_argument("--more", type=float, default=15, help="MB above the worker with a collector that works")
    made.add_argument("--protocol", choices=("http/protobuf", "grpc"), default="http/protobuf")
    made.add_argument("--quiet", action="store_true", help="the table alone")
    return made


def main(options: argparse.Namespace) -> int:
    """Run, print the table and what is wrong; the exit code."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]
    os.environ["GRPC_VERBOSITY"] = "NONE"  # grpc would log a line for each process that is started here
    found = run(options)
    print(table(found))
    wrong = [line for one in found for line in one.wrong(found[0], options.more, one.name in (HANGS, REFUSES, FAILS))]
    print("\n".join(wrong) or f"each message is stored once; no outage took more than {options.more:.0f} MB")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(parser().parse_args()))
