"""What several commands share: the directory of the local stack, and a line for the person who started it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

Directory = Annotated[Path | None, typer.Option("--dir", help="Where data, logs and stack.env go. [.local]")]


def say(line: str) -> None:
    """Print one line on standard error."""
    print(line, file=sys.stderr, flush=True)
