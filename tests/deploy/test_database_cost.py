"""CPU seconds of a server's processes: of those that run, and of those that have ended."""

import subprocess
import sys

from tools.bench.database_cost import cpu_seconds

BURN = "import time; end = time.process_time() + {}; exec('while time.process_time() < end: pass')"
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN!r}.format(0.3)], check=True)
running = subprocess.Popen([sys.executable, "-c", {BURN!r}.format(0.3) + "; input()"], stdin=subprocess.PIPE)
print("ready", flush=True)
input()
running.communicate(b"\\n")
"""


def test_processes_that_have_ended_are_counted_with_those_that_run() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    assert cpu_seconds(parent.pid) >= 0.3  # of the child that has ended
    spent = 0.0
    while spent < 0.6:  # the other one runs
        spent = cpu_seconds(parent.pid)
    parent.communicate(b"\n")
    assert parent.returncode == 0
