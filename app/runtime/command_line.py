"""The command line of another program of this package, run with the same interpreter."""

import sys


def program_command(name: str) -> list[str]:
    """The command line of one of our programs, in this Python."""
    if name == "worker":
        return [sys.executable, "-m", "faust", "-A", "app", "worker", "-l", "warn", "--without-web"]
    return [sys.executable, "-m", "app", name]
