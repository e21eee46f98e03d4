"""A start of a program does not look for cycles while it imports, and does so afterwards."""

import gc
import subprocess
import sys

import pytest

from app.runtime.allocator import quick_imports

COUNT = """
import gc
before = gc.get_stats()[0]["collections"]
{made}
print(gc.get_stats()[0]["collections"] - before, gc.isenabled())
"""


@pytest.mark.parametrize(
    "made", ["from app import app", "from app.cli.main import _command; _command('bridge')"], ids=["worker", "bridge"]
)
def test_programs(made: str) -> None:
    done = subprocess.run([sys.executable, "-c", COUNT.format(made=made)], capture_output=True, text=True, check=True)
    collections, enabled = done.stdout.split()
    assert enabled == "True"
    assert int(collections) < 60, "of 126 and 221, which it would be"


def test_the_collector_is_on_again_after_an_error() -> None:
    with pytest.raises(ImportError), quick_imports():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with quick_imports(), quick_imports():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
