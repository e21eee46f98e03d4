"""app/core has no I/O, clock, logging, chance or Faust: looked up in its source and seen when it is imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import app.core

CORE = Path(app.core.__file__).parent
MODULES = sorted(CORE.rglob("*.py"))
IMPURE = {"asyncio", "faust", "mode", "aiokafka", "asyncpg", "structlog", "logging", "socket", "random", "time"}
IMPURE |= {
    "threading",
    "subprocess",
    "secrets",
    "uuid",
    "os",
    "io",
}
CORE_AND_ERRORS = ("app.core", "app.errors")
CLOCKS = {"now", "utcnow", "today", "time_ns", "monotonic"}
CALLS = {"open", "print", "input", "exec", "eval", "__import__"}


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for full in names for name in (full, full.partition(".")[0], ".".join(full.split(".")[:2]))}


def impurities(source: str) -> set[str]:
    tree = ast.parse(source)
    names = imported(tree)
    found = names & IMPURE | {
        name for name in names if name.startswith("app.") and not name.startswith(CORE_AND_ERRORS)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            found.add(node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            found.add(node.func.id)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_source(path: Path) -> None:
    allowed = {"exec"} if path.name == "codegen.py" else set()  # of names that struct_columns.py has checked
    assert impurities(path.read_text()) == allowed


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import socket as s",
        "import faust.app",
        "from app import cli",
        "from app.kafka import x",
        "from datetime import datetime\ndatetime.now()",
        "def f():\n    from asyncio import sleep",
        "open('x')",
    ],
)
def test_the_check_finds(source: str) -> None:
    assert impurities(source)


def test_importing_the_core_brings_in_no_server_or_loop() -> None:
    """In a new interpreter. `time` and `random` are not looked for: the standard library uses them itself."""
    names = [".".join(("app", "core", *path.relative_to(CORE).with_suffix("").parts)) for path in MODULES]
    code = f"import sys, importlib\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert set(names) - loaded <= {"app.core.__init__"}
    assert not loaded & {
        "asyncio",
        "faust",
        "mode",
        "aiokafka",
        "asyncpg",
        "socket",
        "structlog",
        "logging",
        "app.settings",
    }
