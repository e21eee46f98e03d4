"""`make simulate`: schedules until the time or their number is reached; or one, step by step (--seed).

Exit code 1 when a promise is broken, with the seed, the fewest faults that break it, and the command to see it again.
"""

import argparse
import os
import secrets
import sys


def main() -> int:
    """Parse, and run one schedule or many."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of names are walked in the order of their hashes
        fixed = os.environ | {"PYTHONHASHSEED": "0"}
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], fixed)
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seconds", type=float, help="stop after this time (60 without --schedules)")
    parser.add_argument("--schedules", type=int, help="stop after this many random schedules")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--first", type=int, help="first seed; by default a random one")
    parser.add_argument("--seed", help="run this schedule alone and print its trace")
    parser.add_argument("--without", default="", help="with --seed: leave out these faults of its plan, as in 0,2")
    given = parser.parse_args()
    if given.seed is not None:
        from tests.simulation.trace import replay

        return replay(given.seed, {int(number) for number in given.without.split(",") if number})
    from tests.simulation.campaign import Campaign

    first = secrets.randbelow(10**9) if given.first is None else given.first
    seconds = given.seconds or (None if given.schedules else 60.0)
    return Campaign(first, seconds, given.schedules, given.jobs).run()


if __name__ == "__main__":
    sys.exit(main())
