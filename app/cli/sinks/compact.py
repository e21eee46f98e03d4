"""`iot-stream sink NAME --compact`: merges the small files of Parquet sinks, and prints the result."""

import importlib
import json
import sys
from collections.abc import Sequence

import msgspec
import typer

from app.errors import PermanentError
from app.sinks.router import SinkInstance


def compacted(sinks: Sequence[SinkInstance], as_json: bool) -> int:
    """Merge the files of each sink; returns the exit code. Raises as `app.sinks.parquet.compact.compact` does."""
    if others_kinds := sorted({one.kind for one in sinks} - {"parquet"}):
        raise typer.BadParameter(f"has no files: {', '.join(others_kinds)}", param_hint="--compact")
    try:
        module = importlib.import_module("app.sinks.parquet.compact")
    except ModuleNotFoundError as error:
        raise PermanentError(f"Parquet needs the package {error.name}: pip install 'iot-stream[sinks]'") from None
    for one in sinks:
        done = module.compact(one.settings, _tell)
        figures = msgspec.structs.asdict(done)
        if as_json:
            print(json.dumps({"sink": one.name, **figures}))
        else:
            print(f"{one.name}: " + ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in figures.items()))
    return 0


def _tell(path: str, files: int) -> None:
    print(f"{path}: of {files} files", file=sys.stderr)
