"""The three benchmarks of speed, one after another on this machine, and a table of their results.

    python -m tools.bench

The run takes three to six minutes on an otherwise idle machine. Sizes are small; docs/benchmarks.md has the long forms.
"""

import statistics
from typing import NamedTuple

import uvloop

from tools.bench import core, end_to_end, latency

MESSAGES = 20_000  # messages of the core benchmark
END_TO_END = ["--rows", "500000", "--runs", "2"]
RATES = [100.0, 1000.0, 5000.0]  # messages a second
SECONDS = 10.0
P50_TARGET, P99_TARGET = 15, 60  # ms at 1,000 messages a second, everything on two cores


class Line(NamedTuple):
    """A line of the table of results."""

    what: str
    figure: str
    target: str = ""


def of_core() -> list[Line]:
    """The core benchmark: decode and validate messages and make rows, on one core."""
    _, middle = core.measure(core.path, core.telemetry(MESSAGES))
    return [Line("core: decode, validate, row", f"{1e6 / middle:,.0f} msg/s per core")]


def of_end_to_end() -> list[Line]:
    """The end-to-end benchmark: a backlog from Kafka to the table."""
    results = end_to_end.run(end_to_end.parser().parse_args(END_TO_END))
    found = []
    for name, runs in results.items():
        rate, cpu, _, database, wal = (statistics.median(values) for values in zip(*runs, strict=True))
        figure = f"{rate:,.0f} rows/s, {cpu:.1f} + {database:.1f} CPU s per million, {wal:.0f} B WAL a row"
        found.append(Line(f"Kafka to table: {name}", figure))
    return found


def of_latency() -> list[Line]:
    """The latency benchmark: from MQTT publish to a visible row."""
    found = []
    for result in uvloop.run(latency.run(RATES, SECONDS, 100, 1)):
        p50, _, p99, _ = result.milliseconds()
        rate = result.watch.load.rate
        target = f"p50 <= {P50_TARGET}, p99 <= {P99_TARGET} ms" if rate == 1000 else ""
        found.append(Line(f"MQTT to row at {rate:,.0f} msg/s", f"p50 {p50:.1f}, p99 {p99:.1f} ms", target))
    return found


def main() -> None:
    """Run the three benchmarks, then print the table."""
    lines: list[Line] = []
    for title, bench in (("core", of_core), ("end_to_end", of_end_to_end), ("latency", of_latency)):
        print(f"== {title}", flush=True)
        lines += bench()
    print(f"\n{'':34} {'measured':40} target")
    for line in lines:
        print(f"{line.what:34} {line.figure:40} {line.target}".rstrip())


if __name__ == "__main__":
    main()
