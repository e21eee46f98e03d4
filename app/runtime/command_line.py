"""The command line of another program of this package, run with the same interpreter."""

import sys


def program_command(name: str) -> list[str]:
    """The arguments that start one of our programs (`worker`, `bridge`, ...) with this interpreter: a worker is started
    by Faust, all others by `python -m app`, `sink-parquet` with the words `sink parquet`.
    """
    if name == "worker":
        return [sys.executable, "-m", "faust", "-A", "app", "worker", "-l", "warn", "--without-web"]
    command, dash, sink = name.partition("-")
    return [sys.executable, "-m", "app", *([command, sink] if dash else [name])]
