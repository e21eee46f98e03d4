"""What tracing costs a worker: one with it and one without, side by side, on servers of its own.

    python -m tools.bench.tracing --rows 1000000 --pairs 9

Kafka to table as in end_to_end.py, of records as a bridge writes them for QoS 0, on which nobody has decided. In each
pair one worker is without an endpoint, the other as one of the modes says: a share of the messages traced, to a
collector that takes the spans, or to an address where nobody is. Prints, for each mode, the CPU seconds of the workers
per million rows, and the median of the ratios of the pairs with the interval that holds the true one with 95 %, by
their order.
"""

import argparse
import os
import statistics
from collections.abc import Mapping, Sequence

from tools.bench import end_to_end
from tools.bench.side_by_side import Contender, Pair, SideBySide, words

DEAD = "http://127.0.0.1:9"  # the port of `discard`, where nobody is
MODES = {"0.1%": 0.001, "1%": 0.01, "dead": 0.01}  # ratio; "dead": to nobody
OFF = Contender("off")


def traced(mode: str, collector: str) -> Contender:
    """A worker that traces as the mode says."""
    endpoint = DEAD if mode == "dead" else collector
    more = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "IOT_TRACE_RATIO": str(MODES[mode])}
    return Contender(mode.replace("%", "").replace(".", "-"), more)


def measure(runs: SideBySide, options: argparse.Namespace, collector: str) -> dict[str, list[Pair]]:
    """The modes in turns, so that each meets every hour of the machine."""
    pairs: dict[str, list[Pair]] = {mode: [] for mode in options.modes}
    for number in range(options.pairs):
        for mode, found in pairs.items():
            found.append(runs.run(OFF, traced(mode, collector)))
            off, on = found[-1]
            ratio = found[-1].ratio
            print(f"  {number + 1} {mode:5} off {off.cpu:5.2f}  on {on.cpu:5.2f}  ratio {ratio:.3f}", flush=True)
    return pairs


def report(pairs: Mapping[str, Sequence[Pair]]) -> None:
    """A line for each mode."""
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
        del os.environ[name]  # the runs without tracing are without it
    os.environ["GRPC_VERBOSITY"] = "NONE"  # it would comment on each process that is started here
    from tests.otlp import receiver

    with end_to_end.servers() as (kafka, postgres, home), receiver() as collector:
        runs = SideBySide(end_to_end.filled(kafka, postgres, options), options, home)
        pairs = measure(runs, options, collector.grpc_endpoint)
        print(f"the collector got {len(collector.spans):,} spans")
        report(pairs)


if __name__ == "__main__":
    main(parser().parse_args())
