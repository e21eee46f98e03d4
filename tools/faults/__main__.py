"""`python -m tools.faults`: inject random faults, chosen by a seed, and account for every message.

Exit code 0 when every promise is kept; exit code 1 when a promise is broken, and the logs remain.
"""

import argparse
import asyncio
import json
import logging
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from app.local.layout import SINKS, WAYS
from tools.faults.clocks import available
from tools.faults.outcome import Outcome
from tools.faults.report import machine, summary, table
from tools.faults.run import run
from tools.faults.schedule import kinds, schedule
from tools.faults.sinks.destinations import HURTS

HOUR = 3600.0
DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- begin run -->", "<!-- end run -->"
MARGIN = 200  # characters of a line that fit into the document


def main() -> None:
    """Run once, or for hours with a new seed each round."""
    options = arguments().parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the auditors' clients log the faults too
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # started processes are stopped, as with Ctrl-C
    until = time.monotonic() + options.hours * HOUR
    seed = secrets.randbelow(10**9) if options.seed is None else options.seed
    while True:
        outcome = once(options, seed)
        if outcome.broken:
            sys.exit(1)
        if time.monotonic() >= until:
            return
        seed += 1


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser("python -m tools.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="the same seed gives the same faults (default: random)")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument(
        "--only", default="", help="only faults whose name contains this text, such as 'postgres' or 'kill'"
    )
    parser.add_argument(
        "--ways", default="all", help="gateways that take part: http,tcp,grpc,quic, all (default) or none"
    )
    parser.add_argument(
        "--sinks", default="none", help=f"sinks that take part: {','.join(SINKS)}, all or none (default)"
    )
    parser.add_argument("--hours", type=float, default=0.0, help="continue with the next seed for this number of hours")
    parser.add_argument("--json", action="store_true", help="the outcome as JSON on stdout; progress on stderr")
    parser.add_argument("--document", action="store_true", help="write the table to docs/reliability.md")
    return parser


def once(options: argparse.Namespace, seed: int) -> Outcome:
    """Run once with a seed and print the report."""
    clocks, ways, sinks = available(), chosen(options.ways, WAYS, "--ways"), chosen(options.sinks, SINKS, "--sinks")
    every = kinds(clocks=clocks, ways=ways, sinks={sink: HURTS[sink] for sink in sinks})
    among = [kind for kind in every if options.only in str(kind)]
    if not among:
        sys.exit(f"no fault has {options.only!r} in its name; faults: {', '.join(map(str, every))}")
    directory = Path(tempfile.mkdtemp(prefix="iot-"))
    directory.chmod(0o711)  # PostgreSQL may run under another account
    say(f"seed {seed}: {options.messages:,} messages, {options.faults} faults of {len(among)} kinds; {directory}")
    if not clocks:
        say("no C compiler: no clock jumps")
    faults = schedule(seed, options.faults, among)
    outcome = asyncio.run(run(directory, seed, options.messages, faults, say, clocks=clocks, ways=ways, sinks=sinks))
    say(f"\n{table(outcome)}\n\n{summary(outcome)}")
    if options.document:
        document(options, outcome)
    if options.json:
        print(json.dumps(machine(outcome)), flush=True)
    if outcome.broken:
        shutil.rmtree(directory / "servers", ignore_errors=True)
        say(
            f"logs: {directory}; repeat with: python -m tools.faults --seed {seed} --messages {options.messages} "
            f"--faults {options.faults} --ways {options.ways} --sinks {options.sinks}"
            + (f" --only {options.only!r}" if options.only else "")
        )
    else:
        shutil.rmtree(directory)
    return outcome


def chosen(text: str, every: Sequence[str], option: str) -> Sequence[str]:
    """The gateways or sinks that the value of an option names."""
    names = {"all": every, "none": ()}.get(text, text.split(","))
    if unknown := set(names) - set(every):
        sys.exit(f"{option}: unknown: {', '.join(sorted(unknown))}; known: {', '.join(every)}")
    return names


def document(options: argparse.Namespace, outcome: Outcome) -> None:
    """Write the run to docs/reliability.md, in place of the run before."""
    text = DOCUMENT.read_text()
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    command = f"python -m tools.faults --seed {outcome.seed} --messages {options.messages} --faults {options.faults}"
    verdict = "\n".join(f"    {line[:MARGIN]}" for line in summary(outcome).splitlines())
    DOCUMENT.write_text(f"{head}\n    {command}\n\n{table(outcome)}\n\n{verdict}\n{tail}")


def say(line: str) -> None:
    """Print a line of progress to stderr."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
