"""Large buffers go back to the system when they are freed; without the setting glibc keeps them after the first."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from app.runtime.allocator import give_large_buffers_back
def mapped():
    with open("/proc/self/maps") as maps:
        heaps = [line.split()[0].split("-") for line in maps if "[heap]" in line]
    return sum(int(end, 16) - int(begin, 16) for begin, end in heaps)
if sys.argv[1] == "set":
    assert give_large_buffers_back()
for _ in range(3):
    first = bytes(4 << 20); del first  # glibc learns from it
before = mapped()
many = [bytes(4 << 20) for _ in range(8)]
print(mapped() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such limit")
@pytest.mark.parametrize(("setting", "on_the_heap"), [("set", False), ("default", True)])
def test_large_buffers_are_kept_apart(setting: str, on_the_heap: bool) -> None:
    answer = subprocess.run([sys.executable, "-c", PROGRAM, setting], capture_output=True, text=True, check=True)
    assert (int(answer.stdout) > 16 << 20) is on_the_heap


SELDOM = """
import gc
from app.runtime.allocator import look_for_cycles_seldom
look_for_cycles_seldom()
before = gc.get_stats()[0]["collections"]
many = [[] for _ in range(50_000)]
assert gc.get_stats()[0]["collections"] == before, "for nothing"
for _ in range(300_000):
    one = []; one.append(one)
assert gc.get_stats()[0]["collected"] > 100_000, "cycles are found all the same"
"""


def test_cycles_are_looked_for_seldom() -> None:
    subprocess.run([sys.executable, "-c", SELDOM], check=True)
