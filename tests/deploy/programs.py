"""The programs that check the deployed files by their own rules, built by scripts/deploy-tools (`make tools`)."""

import subprocess
from functools import cache
from pathlib import Path

import pytest

from tools.documents import ROOT


@cache
def _directory() -> Path:
    done = subprocess.run(
        [str(ROOT / "scripts" / "deploy-tools"), "--where"], capture_output=True, text=True, check=True, timeout=60
    )
    return Path(done.stdout.strip())


def path(name: str) -> Path:
    """Where it is, if it was built."""
    return _directory() / name


def has(name: str) -> bool:
    """Whether it was built."""
    return path(name).exists()


def run(name: str, *arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """What the program says, with `given` on its standard input. Skips the test when it was not built."""
    if not has(name):
        pytest.skip(f"{name} was not built, so what it checks is NOT checked: `make tools` (wants Go)")
    command = [str(path(name)), *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=120)
