"""A worker's loop outlives Faust's closing of it: its consumer thread may still call it."""

import subprocess
import sys

PROGRAM = """
import asyncio, threading, time
from app.runtime.event_loop import use_uvloop

use_uvloop()
loop = asyncio.new_event_loop()
calls = []

def consumer_thread():
    while not enough.is_set():
        calls.append(loop.call_soon_threadsafe(int))
        time.sleep(0.001)

enough = threading.Event()
thread = threading.Thread(target=consumer_thread)
thread.start()
loop.run_until_complete(asyncio.sleep(0.1))
before = len(calls)
loop.close()
time.sleep(0.1)
print(type(loop).__module__, len(calls) > before)
enough.set()
"""


def test_who_calls_a_closed_loop_does_no_harm() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip().splitlines()[-1] == "app.runtime.event_loop True"
