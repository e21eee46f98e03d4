"""What tracing costs a worker: runs with it and without, in pairs, on servers of its own.

    python -m tests.bench.tracing --rows 1000000 --pairs 9

Kafka to table as in end_to_end.py, of records as a bridge writes them for QoS 0, on which nobody has decided. In each
pair one run is without an endpoint, the other as one of the modes says: a share of the messages traced, to a collector
that takes the spans, or to an address where nobody is. Prints, for each mode, the CPU seconds of the worker per million
rows, and the median of the ratios of the pairs with the interval that holds the true one with 95 %, by their order.
"""

import argparse
import asyncio
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import SecretStr

from app.kafka import topics
from app.kafka.access import Access
from app.local.servers.common import free_port
from app.settings import Settings
from tests.bench.end_to_end import Result, empty, prepare, run_worker, servers
from tests.bench.load import fill
from tests.bench.pairs import words

DEAD = "http://127.0.0.1:9"  # the port of `discard`, where nobody is
MODES = {"0.1%": 0.001, "1%": 0.01, "dead": 0.01}  # ratio; "dead": to nobody


class Pair(NamedTuple):
    """A run without tracing, and the one before or after it with."""

    off: Result
    on: Result


def variables(mode: str, collector: str) -> dict[str, str]:
    """What switches tracing on as the mode says."""
    endpoint = DEAD if mode == "dead" else collector
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "IOT_TRACE_RATIO": str(MODES[mode])}


def measure(kafka: str, database: str, options: argparse.Namespace, home: str, collector: str) -> dict[str, list[Pair]]:
    """Fill the topic once, and drain it in every run by a worker of a group of its own."""
    base = Settings(kafka_broker=kafka, database_url=SecretStr(database), kafka_topic="bench")
    asyncio.run(prepare(database))
    asyncio.run(topics.create(Access(kafka), topics.wanted(base), 1))
    asyncio.run(fill(kafka, "bench", options.rows, options.devices, True))
    pairs: dict[str, list[Pair]] = {mode: [] for mode in options.modes}
    for number in range(options.pairs):
        for mode in options.modes:
            names = ("off", mode) if number % 2 == 0 else (mode, "off")
            found: dict[str, Result] = {}
            for name in names:
                asyncio.run(empty(database))
                app = f"n{number}-{mode.strip('%').replace('.', '-')}-{'off' if name == 'off' else 'on'}"
                settings = base.model_copy(update={"app": app, "metrics_port": free_port()})
                asyncio.run(topics.create(Access(kafka), topics.wanted(settings), 1))
                more: Mapping[str, str] = {} if name == "off" else variables(mode, collector)
                found[name] = run_worker(settings, options, home, more)
            pairs[mode].append(Pair(found["off"], found[mode]))
            off, on = pairs[mode][-1]
            print(
                f"  {number + 1} {mode:5} off {off.cpu:5.2f}  on {on.cpu:5.2f}  ratio {on.cpu / off.cpu:.3f}",
                flush=True,
            )
    return pairs


def report(pairs: Mapping[str, Sequence[Pair]]) -> None:
    """A line for each mode."""
    print(f"{'':6}{'off':>8}{'on':>8}  CPU s per million rows; ratio: median (95 %), rows/s on / off, MB off and on")
    for mode, each in pairs.items():
        ratios = [pair.on.cpu / pair.off.cpu for pair in each]
        off, on = (statistics.median(pair[side].cpu for pair in each) for side in (0, 1))
        rates = statistics.median(pair.on.rate / pair.off.rate for pair in each)
        memory = [statistics.median(pair[side].rss for pair in each) for side in (0, 1)]
        print(f"{mode:6}{off:8.2f}{on:8.2f}  {words(ratios)}, {rates:.2f}, {memory[0]:.0f} and {memory[1]:.0f}")


def parser() -> argparse.ArgumentParser:
    """Options and their defaults."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rows", type=int, default=1_000_000)
    made.add_argument("--pairs", type=int, default=9)
    made.add_argument("--devices", type=int, default=500)
    made.add_argument("--in-flight", type=int, default=3)
    made.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    return made


def main(options: argparse.Namespace) -> None:
    """Start the servers and the collector, measure, stop them."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]  # the runs without tracing are without it
    os.environ["GRPC_VERBOSITY"] = "NONE"  # it would comment on each process that is started here
    from tests.otlp import receiver

    with servers() as (kafka, postgres, home), receiver() as collector:
        pairs = measure(kafka.bootstrap, postgres.dsn, options, home, collector.grpc_endpoint)
        print(f"the collector got {len(collector.spans):,} spans")
        report(pairs)


if __name__ == "__main__":
    main(parser().parse_args())
