"""The cost of tracing for a worker: a worker with tracing and a worker without, side by side, on their own servers.

    python -m tools.bench.tracing --rows 1000000 --pairs 9

Kafka to table as in end_to_end.py, with records as the bridge writes them for QoS 0, without a sampling decision. In
each pair one worker has no endpoint, and the mode sets the other worker: a share of the messages traced, to a collector
that accepts the spans, or to an address without a server. Prints, for each mode, the CPU seconds of the workers per
million rows, and the median of the ratios of the pairs with its 95 % confidence interval from order statistics.
"""

import argparse
import os
import statistics
from collections.abc import Mapping, Sequence

from tools.bench import end_to_end
from tools.bench.side_by_side import Contender, Pair, SideBySide, words

DEAD = "http://127.0.0.1:9"  # the port of `discard`, without a server
MODES = {"0.1%": 0.001, "1%": 0.01, "dead": 0.01}  # sampling ratio; "dead": no collector
OFF = Contender("off")


def traced(mode: str, collector: str) -> Contender:
    """A worker with the tracing of a mode."""
    endpoint = DEAD if mode == "dead" else collector
    more = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "IOT_TRACE_RATIO": str(MODES[mode])}
    return Contender(mode.replace("%", "").replace(".", "-"), more)


def measure(runs: SideBySide, options: argparse.Namespace, collector: str) -> dict[str, list[Pair]]:
    """Measure the modes in turns, so that changes of the machine's speed affect all modes alike."""
    pairs: dict[str, list[Pair]] = {mode: [] for mode in options.modes}
    for number in range(options.pairs):
        for mode, found in pairs.items():
            found.append(runs.run(OFF, traced(mode, collector)))
            off, on = found[-1]
            ratio = found[-1].ratio
            print(f"  {number + 1} {mode:5} off {off.cpu:5.2f}  on {on.cpu:5.2f}  ratio {ratio:.3f}", flush=True)
    return pairs


def report(pairs: Mapping[str, Sequence[Pair]]) -> None:
    """Print a line for each mode."""
    print(f"{'':6}{'off':>8}{'on':>8}  CPU s per million rows; ratio: median (95 %), rows/s on / off, MB off and on")
    for mode, each in pairs.items():
        off, on = (statistics.median(pair[side].cpu for pair in each) for side in (0, 1))
        rates = statistics.median(pair.other.rate / pair.base.rate for pair in each)
        memory = [statistics.median(pair[side].rss for pair in each) for side in (0, 1)]
        ratios = words([pair.ratio for pair in each])
        print(f"{mode:6}{off:8.2f}{on:8.2f}  {ratios}, {rates:.2f}, {memory[0]:.0f} and {memory[1]:.0f}")


def parser() -> argparse.ArgumentParser:
    """Options and their defaults."""
    made = end_to_end.parser()
    made.description = __doc__
    made.set_defaults(headers=True)
    made.add_argument("--pairs", type=int, default=9)
    made.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    return made


def main(options: argparse.Namespace) -> None:
    """Start the servers and the collector, measure, stop them."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]  # runs without tracing need an environment without the variable
    os.environ["GRPC_VERBOSITY"] = "NONE"  # grpc would log a line for each process that is started here
    from tests.otlp import receiver

    with end_to_end.servers() as (kafka, postgres, home), receiver() as collector:
        runs = SideBySide(end_to_end.filled(kafka, postgres, options), options, home)
        pairs = measure(runs, options, collector.grpc_endpoint)
        print(f"the collector got {len(collector.spans):,} spans")
        report(pairs)


if __name__ == "__main__":
    main(parser().parse_args())
