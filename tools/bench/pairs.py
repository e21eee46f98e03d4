"""The cost of a change: the worker of this checkout and the worker of another checkout, side by side.

    python -m tools.bench.pairs ../before --rows 1000000 --pairs 9

Kafka to table as in end_to_end.py; the other checkout has its own .venv (`make setup`). Prints the CPU seconds per
million rows of each pair, and the median of the ratios this / other with its 95 % confidence interval from order
statistics. `../before` may be this checkout itself: then the ratio shows the error of the method.
"""

import argparse
import statistics
from pathlib import Path

from tools.bench.end_to_end import CHECKOUT, filled, parser, servers
from tools.bench.side_by_side import Contender, SideBySide, words


def main(options: argparse.Namespace) -> None:
    """Start the servers, measure, stop them."""
    other, this = Contender("other", checkout=options.other.absolute()), Contender("this", checkout=CHECKOUT)
    pairs = []
    with servers() as (kafka, postgres, home):
        runs = SideBySide(filled(kafka, postgres, options), options, home)
        for number in range(options.pairs):
            pairs.append(runs.run(other, this))
            before, after = pairs[-1]
            print(f"  {number + 1} other {before.cpu:5.2f}  this {after.cpu:5.2f}  {pairs[-1].ratio:.3f}", flush=True)
    before_cpu, after_cpu = (statistics.median(pair[side].cpu for pair in pairs) for side in (0, 1))
    ratio = words([pair.ratio for pair in pairs])
    print(f"CPU s per million rows: other {before_cpu:.2f}, this {after_cpu:.2f}, this / other {ratio}")


if __name__ == "__main__":
    made = parser()
    made.description = __doc__
    made.add_argument("other", type=Path, help="the other checkout")
    made.add_argument("--pairs", type=int, default=9)
    main(made.parse_args())
