"""This checkout against another one: the same benchmark of both, in alternating pairs.

    python -m tests.bench.pairs ../before --rows 1000000 --pairs 9
    python -m tests.bench.pairs ../before --bench core

Each checkout has a .venv of its own (`make setup` there). Prints the ratio this / other of each pair: CPU seconds per
million rows of the worker, or microseconds a message of the core; then the medians, and the interval that holds the
true median ratio with 95 %, by the order of the pairs. On a machine whose speed changes from minute to minute the
neighbours of a pair can be compared, and nothing else.
"""

import argparse
import math
import re
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parents[2]
CORE = {  # what it is called -> how its line in the table of tests.bench.core begins
    "no rules": "all of step 2, no rules",
    "two rules": "2 rules, state, alerts 1 in 50",
    "5,000 devices": "2 rules, state, 5000 devices",
}
WORKER = re.compile(r"^worker .* ([\d.]+) CPU s per million rows", re.MULTILINE)


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The least and the largest of the ordered ratios between which the median lies with at least 95 %, if there are.

    Of n independent ones as many are below the median as heads come in n throws. Fewer than six say nothing.
    """
    count, ordered = len(ratios), sorted(ratios)
    left_out, below = 0, 1 / 2**count
    while left_out < (count - 1) // 2 and 2 * below <= 0.05:
        left_out += 1
        below += math.comb(count, left_out) / 2**count
    left_out = max(0, left_out - 1)
    return ordered[left_out], ordered[-1 - left_out]


def words(ratios: Sequence[float]) -> str:
    """The median of the ratios, and its interval."""
    low, high = interval(ratios)
    return f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


def end_to_end(checkout: Path, rows: int) -> Mapping[str, float]:
    """CPU seconds per million rows of one run. Raises CalledProcessError when the benchmark fails."""
    found = WORKER.search(_run(checkout, "end_to_end", "--rows", str(rows), "--runs", "1"))
    assert found, "the benchmark prints its medians last"
    return {"worker, CPU s per million rows": float(found[1])}


def core(checkout: Path, messages: int) -> Mapping[str, float]:
    """Microseconds a message, by kind of load. Raises CalledProcessError when the benchmark fails."""
    lines = _run(checkout, "core", str(messages)).splitlines()
    return {
        name: next(float(line.split()[-2]) for line in lines if line.startswith(start)) for name, start in CORE.items()
    }


def _run(checkout: Path, name: str, *words: str) -> str:
    command = [".venv/bin/python", "-m", f"tests.bench.{name}", *words]
    return subprocess.run(command, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True).stdout


def main(options: argparse.Namespace) -> None:
    """Measure, in turns; the ratios of each pair as they come, the medians last."""
    measure, size = (core, 5_000) if options.bench == "core" else (end_to_end, options.rows)
    found: dict[str, list[tuple[float, float]]] = {}
    for number in range(options.pairs):
        order = (options.other, HERE) if number % 2 == 0 else (HERE, options.other)
        results = {checkout: measure(checkout, size) for checkout in order}
        for name, other in results[options.other].items():
            found.setdefault(name, []).append((other, results[HERE][name]))
            print(f"  {number + 1} {name}: other {other:.2f}, this {results[HERE][name]:.2f}", flush=True)
    for name, pairs in found.items():
        other, this = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(f"{name}: other {other:.2f}, this {this:.2f}, this / other {words([b / a for a, b in pairs])}")


def parser() -> argparse.ArgumentParser:
    """Options and their defaults."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("other", type=Path, help="the other checkout, with a .venv of its own")
    made.add_argument("--bench", choices=["end_to_end", "core"], default="end_to_end")
    made.add_argument("--rows", type=int, default=1_000_000, help="of end_to_end")
    made.add_argument("--pairs", type=int, default=9)
    return made


if __name__ == "__main__":
    main(parser().parse_args())
