"""A worker that notes which files of app/ a payload passes: `python -m tests.passed_files` is `faust -A app`.

A file is passed when one of its functions is handed, or returns, something that holds a marked payload, or what has
become of it: the record, the reading, the row, or a batch of them. The names are written to $TEST_PASSED when the
worker ends.
"""

import json
import os
import runpy
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

APP = Path(__file__).parents[1] / "app"
MARKED = range(7_318_420_000, 7_318_430_000)  # sequence ids
TEXT = "731842"  # in each of them
HOLDERS = (
    "message",
    "value",
    "records",
    "rows",
    "sequence_id",
)  # attributes that hold a payload, or what becomes of it
DEPTH = 4

passed: dict[str, str] = {}  # file: the first function of it


def holds(found: object, depth: int = DEPTH) -> bool:
    """Whether it is, or holds, a marked payload or what has become of one."""
    match found:
        case bool() | None:
            return False
        case int():
            return found in MARKED
        case bytes() | bytearray():
            return TEXT.encode() in found
        case str():
            return TEXT in found
    return depth > 0 and any(holds(part, depth - 1) for part in parts(found))


def parts(found: object) -> Iterator[object]:
    """What a container or a batch holds; of many only the first and the last."""
    if isinstance(found, dict | list | tuple | deque):  # not whatever is like one: a table decodes what it is asked for
        every = tuple(found.values() if isinstance(found, dict) else found)
        yield from every if len(every) <= 16 else (*every[:4], *every[-4:])
    else:
        for name in HOLDERS:
            yield getattr(found, name, None)


def note(frame: FrameType, event: str, given: object) -> None:
    """A function is called or goes on, or it returns `given`."""
    code = frame.f_code
    if event not in ("call", "return") or not code.co_filename.startswith(str(APP)):
        return
    file = code.co_filename.removeprefix(f"{APP.parent}/")
    if file in passed:
        return
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    handed = [frame.f_locals.get(name) for name in names if name != "self"] if event == "call" else [given]
    if any(map(holds, handed)):
        passed[file] = code.co_qualname


if __name__ == "__main__":
    threading.setprofile(note)
    sys.setprofile(note)
    sys.argv = ["faust", "-A", "app", *sys.argv[1:]]
    try:
        runpy.run_module("faust", run_name="__main__")
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        Path(os.environ["TEST_PASSED"]).write_text(json.dumps(passed, indent=1))
