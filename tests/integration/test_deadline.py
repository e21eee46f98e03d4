"""The last resort of a stop ends a process that hangs, says so, and leaves one in peace that does not."""

import subprocess
import sys
import time

import pytest

from app.runtime.ending.exit_codes import ExitCode

pytestmark = pytest.mark.integration

PROGRAM = """
import threading, time
from app.runtime.ending.stop_deadline import StopDeadline
deadline = StopDeadline({seconds})
deadline.begin()
deadline.begin()  # a second signal changes nothing
{then}
"""


def run(seconds: float, then: str) -> tuple[int, str, float]:
    began = time.monotonic()
    command = [sys.executable, "-c", PROGRAM.format(seconds=seconds, then=then)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout + ended.stderr, time.monotonic() - began


def test_a_process_that_hangs_in_its_main_thread_is_ended() -> None:
    code, output, took = run(0.3, "time.sleep(50)")
    assert (code, "stop_given_up" in output) == (ExitCode.STOP_GIVEN_UP, True), output
    assert took < 40


def test_a_thread_that_does_not_end_is_named() -> None:
    code, output, _ = run(0.3, "threading.Thread(target=time.sleep, args=(50,), name='stuck-one').start()")
    assert code == ExitCode.STOP_GIVEN_UP
    assert "stuck-one" in output


def test_a_process_that_ends_in_time_ends_as_it_wants() -> None:
    code, output, _ = run(30, "raise SystemExit(7)")
    assert (code, output) == (7, "")
