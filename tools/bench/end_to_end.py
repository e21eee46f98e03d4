"""Kafka to table: one worker and the hand-written floors (floor.py) in turns, on servers started for the benchmark.

    python -m tools.bench.end_to_end --rows 1000000 --runs 3

All drain the same topic into the same empty table with the same number of writes in flight; the worker also decodes
and validates every field, evaluates two rules a message, keeps device state and its changelog, and sends alerts. The
floor and the worker are run in both ways of storing: staged, and with COPY straight into the table. Rates run from the
first rows stored to the last; CPU is that of the worker or floor process alone, and beside it that of all PostgreSQL's
processes, and its WAL, over the whole run. Prints medians.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import asyncpg
import psutil
from pydantic import SecretStr

from app.kafka import topics
from app.kafka.access import Access
from app.local.servers.common import free_port
from app.local.servers.kafka import Kafka
from app.local.servers.postgres import Postgres
from app.postgres.schema import init_sql
from app.settings import Settings
from tools.bench.database_cost import DatabaseCost, spent
from tools.bench.load import USERS, fill

RULES = json.dumps(
    [
        {"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"},
        {"key": "battery", "operator": "<", "threshold": 15, "message": "battery low"},
    ]
)
GIVE_UP = 120.0  # seconds
CHECKOUT = Path(__file__).parents[2]


class Result(NamedTuple):
    """The figures of one run."""

    rate: float  # rows per second
    cpu: float  # CPU seconds per million rows
    rss: float  # MB
    database_cpu: float = 0.0  # CPU seconds of PostgreSQL per million rows
    wal: float = 0.0  # bytes a row

    def with_cost(self, cost: DatabaseCost, rows: int) -> "Result":
        """The same with what the database spent on so many rows."""
        return self._replace(database_cpu=cost.cpu / rows * 1e6, wal=cost.wal / rows)


FLOOR, STRAIGHT, WORKER, STAGED = "floor", "straight", "worker", "staged"
CONTENDERS = (FLOOR, STRAIGHT, WORKER, STAGED)
# What of what is of interest: the worker beside the floor of either way, and what its straight COPY saves.
RATIOS = ((WORKER, FLOOR), (WORKER, STRAIGHT), (WORKER, STAGED))


def run_floor(kafka: str, database: str, topic: str, options: argparse.Namespace, *, straight: bool = False) -> Result:
    """One run of the floor; `straight`: with COPY into the table itself."""
    command = [sys.executable, "-m", "tools.bench.floor", "--kafka", kafka, "--database", database, "--topic", topic]
    command += ["--rows", str(options.rows), "--in-flight", str(options.in_flight)]
    command += ["--straight"] if straight else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    rss = 0.0
    while process.poll() is None:
        rss = max(rss, _rss(process.pid))
        time.sleep(0.2)
    assert process.stdout is not None
    answer = json.loads(process.stdout.read())
    process.stdout.close()
    return Result(answer["rows"] / answer["seconds"], answer["cpu"] / answer["rows"] * 1e6, rss)


def run_worker(
    settings: Settings,
    options: argparse.Namespace,
    home: str,
    more: Mapping[str, str] = MappingProxyType({}),
    under: Sequence[str] = (),
    checkout: Path = CHECKOUT,
) -> Result:
    """One run of `faust -A app worker`; `more` are further variables, `under` is a command that starts the worker.

    `under` is for example a profiler. `checkout` is the directory of the worker's code, with its own .venv.
    """
    environment = {
        **os.environ,
        "IOT_APP": settings.app,
        "IOT_KAFKA_BROKER": settings.kafka_broker,
        "IOT_KAFKA_TOPIC": settings.kafka_topic,
        "IOT_DATABASE_URL": settings.database_url.get_secret_value(),
        "IOT_METRICS_PORT": str(settings.metrics_port),
        "IOT_STATE_DIR": f"{home}/{settings.app}",
        "IOT_WRITES_IN_FLIGHT": str(options.in_flight),
        "IOT_LOG_LEVEL": "WARNING",
        **more,
    }
    home_of = Path(sys.executable).parent if checkout == CHECKOUT else checkout / ".venv" / "bin"
    with open(f"{home}/{settings.app}.log", "w") as log:
        process = subprocess.Popen(
            [*under, str(home_of / "faust"), "-A", "app", "worker", "-l", "warn", "--without-web"],
            cwd=checkout, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        pid = _child(process.pid) if under else process.pid
        try:
            return _measure(process, pid, settings.metrics_port, options.rows)
        except (TimeoutError, ChildProcessError):
            print(Path(log.name).read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            os.kill(pid, signal.SIGTERM)
            process.wait(30)


def _child(pid: int) -> int:
    """The process that `pid` has started."""
    deadline = time.monotonic() + 10
    while not (children := psutil.Process(pid).children()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} starts nothing")
        time.sleep(0.01)
    return children[0].pid


def _measure(process: subprocess.Popen[bytes], pid: int, port: int, rows: int) -> Result:
    first: tuple[float, float, float] | None = None
    rss, deadline = 0.0, time.monotonic() + GIVE_UP
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ChildProcessError(f"the worker ended with {process.returncode}")
        stored, now, cpu = _stored(port), time.perf_counter(), _cpu(pid)
        rss = max(rss, _rss(pid))
        if first is None and stored:
            first = (stored, now, cpu)
        if stored >= rows and first:
            done = stored - first[0]
            return Result(done / (now - first[1]), (cpu - first[2]) / done * 1e6, rss)
        # Each scrape costs the worker 2.5 ms: scrape often near the first and the last rows, rarely in between.
        time.sleep(0.1 if not stored or stored > 0.9 * rows else 0.5)
    raise TimeoutError(f"the worker stored {_stored(port):.0f} of {rows} rows in {GIVE_UP:.0f} s")


def _stored(port: int) -> float:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            found = re.search(rb"^iot_rows_stored_total (\S+)", answer.read(), re.M)
    except OSError:
        return 0.0
    return float(found[1]) if found else 0.0


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _rss(pid: int) -> float:
    try:
        return psutil.Process(pid).memory_info().rss / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def filled(kafka: Kafka, postgres: Postgres, options: argparse.Namespace) -> Settings:
    """Create the schema and the topics, and write all records to the input topic; the worker's settings."""
    asyncio.run(prepare(postgres.dsn))
    base = Settings(kafka_broker=kafka.bootstrap, database_url=SecretStr(postgres.dsn), kafka_topic="bench")
    asyncio.run(topics.create(Access(kafka.bootstrap), topics.wanted(base), 1))
    asyncio.run(fill(kafka.bootstrap, "bench", options.rows, options.devices, options.headers, options.spike_every))
    return base


async def prepare(database: str) -> None:
    """Create the schema, and two rules for every user."""
    await init_sql.apply(database)
    db = await asyncpg.connect(database)
    await db.executemany(
        "INSERT INTO user_configs (user_id, rules) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        [(f"u{user}", RULES) for user in range(USERS)],
    )
    await db.close()


async def empty(database: str) -> None:
    """Empty the table, so that each run starts alike."""
    db = await asyncpg.connect(database)
    await db.execute("TRUNCATE raw_telemetry")
    await db.execute("CHECKPOINT")
    await db.close()


def compare(kafka: Kafka, postgres: Postgres, options: argparse.Namespace, home: str) -> dict[str, list[Result]]:
    """Alternate floors and workers; print each run, then the medians and their ratios."""
    base = filled(kafka, postgres, options)
    results: dict[str, list[Result]] = {name: [] for name in CONTENDERS}
    for run in range(options.runs):
        for name in CONTENDERS if run % 2 == 0 else CONTENDERS[::-1]:
            asyncio.run(empty(postgres.dsn))
            before = spent(postgres)
            if name in (FLOOR, STRAIGHT):
                straight = name == STRAIGHT
                result = run_floor(kafka.bootstrap, postgres.dsn, "bench", options, straight=straight)
            else:
                result = _run_worker(kafka, base, options, home, f"run{run}-{name}")
            result = result.with_cost(spent(postgres).since(before), options.rows)
            results[name].append(result)
            print(f"  run {run + 1} {_words(name, result)}", flush=True)
    report(results)
    return results


def _run_worker(kafka: Kafka, base: Settings, options: argparse.Namespace, home: str, app: str) -> Result:
    settings = base.model_copy(update={"app": app, "metrics_port": free_port()})
    asyncio.run(topics.create(Access(kafka.bootstrap), topics.wanted(settings), 1))
    more = {"IOT_DIRECT_COPY_MIN_ROWS": "0"} if app.endswith(STAGED) else {}
    return run_worker(settings, options, home, more)


def _words(name: str, result: Result) -> str:
    return (
        f"{name:8s} {result.rate:9,.0f} rows/s  {result.cpu:5.2f} CPU s/M  {result.rss:4.0f} MB  "
        f"PostgreSQL {result.database_cpu:5.2f} CPU s/M  {result.wal:4.0f} B WAL a row"
    )


def report(results: dict[str, list[Result]]) -> None:
    """Print medians, and the medians of the ratios of runs that followed one another."""
    for name, runs in results.items():
        print(_words(name, Result(*(statistics.median(values) for values in zip(*runs, strict=True)))))
    for one, other in RATIOS:
        for what, index in (("rows/s", 0), ("CPU", 1), ("PostgreSQL's CPU", 3), ("WAL", 4)):
            pairs = zip(results[one], results[other], strict=True)
            ratios = [left[index] / right[index] for left, right in pairs if right[index]]
            if ratios:
                each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
                print(f"{one} / {other}, {what}: {statistics.median(ratios):.2f} ({each})")


def parser() -> argparse.ArgumentParser:
    """Options and their defaults."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rows", type=int, default=1_000_000)
    made.add_argument("--runs", type=int, default=3)
    made.add_argument("--devices", type=int, default=500)
    made.add_argument("--in-flight", type=int, default=3)
    made.add_argument("--spike-every", type=int, default=100, help="readings per alert of a device")
    made.add_argument("--headers", action="store_true", help="records with the bridge's headers")
    return made


@contextmanager
def servers() -> Iterator[tuple[Kafka, Postgres, str]]:
    """Kafka and PostgreSQL, started for the benchmark, and their directory, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="iot-bench-", dir=None) as home:
        os.chmod(home, 0o755)  # PostgreSQL runs under its own account
        kafka, postgres = Kafka(Path(home) / "kafka"), Postgres(Path(home) / "postgres")
        try:
            kafka.start()
            postgres.start()
            kafka.wait_ready()
            postgres.wait_ready()
            yield kafka, postgres, home
        finally:
            postgres.stop()
            kafka.stop()


def run(options: argparse.Namespace) -> dict[str, list[Result]]:
    """Start the servers, compare, stop them; results by name, in the order of the runs."""
    with servers() as (kafka, postgres, home):
        return compare(kafka, postgres, options, home)


if __name__ == "__main__":
    run(parser().parse_args())
