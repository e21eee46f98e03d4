"""A flame graph of the worker while it drains the benchmark's topic.

    python -m tools.bench.profile [FILE] [--rows N]

py-spy starts the worker, so py-spy needs no additional rights, and takes 200 samples a second. docs/profiling.md
describes how to read the graph.
"""

import sys
from pathlib import Path

from app.local.servers.common import free_port
from tools.bench import end_to_end

FILE = Path("build/profile.svg")
RATE = 200  # samples a second; at 1,000 py-spy itself uses a fifth of the core


def under(file: Path) -> list[str]:
    """The py-spy command that records the program given after it, thread by thread."""
    spy = Path(sys.executable).with_name("py-spy")
    return [str(spy), "record", "--rate", str(RATE), "--threads", "--output", str(file), "--"]


def main() -> None:
    """Run the worker once; py-spy writes the file when the worker has ended."""
    options = end_to_end.parser()
    options.add_argument("file", nargs="?", type=Path, default=FILE)
    chosen = options.parse_args()
    chosen.file.parent.mkdir(parents=True, exist_ok=True)
    with end_to_end.servers() as (kafka, postgres, home):
        settings = end_to_end.filled(kafka, postgres, chosen).model_copy(update={"metrics_port": free_port()})
        result = end_to_end.run_worker(settings, chosen, home, under=under(chosen.file.absolute()))
    print(f"{result.rate:,.0f} rows/s under the profiler, {result.cpu:.2f} CPU s per million rows: {chosen.file}")


if __name__ == "__main__":
    main()
