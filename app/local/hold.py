"""The worker of a local stack stopped for a while: a command holds a lock, and the supervisor looks at it.

The lock ends with the process that holds it, so that a killed command leaves no stack without a worker.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from app.errors import PermanentError, TransientError
from app.local.layout import Layout
from app.local.servers.process import ChildProcess
from app.local.waits import wait_for

LOCK_SECONDS = 2.0  # the supervisor's look holds the lock for a moment
STOP_SECONDS = 45.0  # a worker has 30 s to finish its work


def is_held(layout: Layout) -> bool:
    """Whether a command keeps the worker of this directory stopped."""
    if not layout.hold.exists():
        return False
    with layout.hold.open() as lock:
        return not _locked(lock, fcntl.LOCK_SH)


@contextmanager
def worker_held(layout: Layout) -> Iterator[None]:
    """Have the supervisor of this directory stop its worker, and start it again when the block or this process ends.

    Raises PermanentError when another command holds the worker, TransientError when it does not end.
    """
    with layout.hold.open("a+") as lock:
        if not wait_for(lambda: _locked(lock, fcntl.LOCK_EX), LOCK_SECONDS):
            raise PermanentError(f"another command keeps the worker stopped: it holds {layout.hold}")
        if not wait_for(lambda: not _runs(layout), STOP_SECONDS):
            raise TransientError(f"the worker does not stop; see {layout.log('worker')}")
        yield


def _locked(lock: IO[str], how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runs(layout: Layout) -> bool:
    entry = layout.read_json(layout.processes).get("worker")
    probe = ChildProcess("worker", [], layout.log("worker"))
    return entry is not None and probe.adopt(int(entry["pid"]), float(entry["created"]))
