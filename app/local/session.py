"""One `up`: holds the lock of its directory, brings the stack up, watches the stack until stopped, stops it."""

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app.errors import IotStreamError, PermanentError
from app.local.account_directory import one_at_a_time
from app.local.layout import Layout
from app.local.port_claims import PortClaims
from app.local.stack import Stack

OTHER_STARTS = "waiting for another stack of this account, which is starting"
TICK = 0.5  # seconds between two looks at the processes


class StackSession:
    """Runs a stack beside the main thread, which waits or draws meanwhile."""

    def __init__(
        self, layout: Layout, say: Callable[[str], None], meanwhile: Callable[[str], None] | None = None
    ) -> None:
        """`say` gets lines for a person, from the supervisor's thread, and `meanwhile` those of the start that the next
        one may replace (None: `say`). Waits until no other stack of this account is
        starting: from the choice of ports until the servers listen there, two stacks must not choose the same. Raises
        TransientError when no port is free, MachineError as AccountDirectory does.
        """
        self._starting, self._say = ExitStack(), say
        self._starting.enter_context(one_at_a_time("start", lambda: say(OTHER_STARTS)))
        self._claims = PortClaims()
        self.stack = Stack(layout, layout.choose_ports(self._claims.claim), say, meanwhile)
        self.stopped, self.ready, self._asked = threading.Event(), threading.Event(), threading.Event()
        self.problem: IotStreamError | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor")

    def __enter__(self) -> "StackSession":
        stop_on_signals(self.stopped)
        signal.signal(signal.SIGUSR1, lambda *_: self._refresh())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.stack.stop()
        self._thread.join()
        self._claims.close()
        if self.problem is not None:
            raise self.problem

    def wait_ready(self) -> bool:
        """Wait until the stack is ready: True; False when it was stopped, or could not start. The reason is in
        `problem`, which leaving the `with` block raises.
        """
        while not self.ready.wait(0.1):
            if self.stopped.is_set():
                return False
        return True

    def _refresh(self) -> None:
        self.stack.supervisor.retry_now()
        self._asked.set()  # the rest is no work for a signal handler

    def _run(self) -> None:
        try:
            self.stack.bring_up()
        except IotStreamError as error:
            if not self.stopped.is_set():
                self.problem = error
            self.stopped.set()
            return
        finally:
            self._starting.close()
        if not self.stopped.is_set():
            self.ready.set()
        while not self.stopped.wait(TICK):
            if self._asked.is_set():
                self._asked.clear()
                self._start_wanted()
            self.stack.supervisor.tick()

    def _start_wanted(self) -> None:
        try:
            self.stack.start_wanted()
        except IotStreamError as error:  # what runs goes on
            self._say(str(error))


def stop_on_signals(stopped: threading.Event) -> None:
    """Ctrl-C, SIGTERM and a closed terminal set the event, and do nothing else; a second one changes nothing."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Be the one supervisor of this directory, which is made when it is missing. Raises PermanentError when
    another process is.
    """
    layout.root.mkdir(parents=True, exist_ok=True)
    with layout.lock.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermanentError(f"{layout.root} is supervised by process {supervisor_pid(layout)} already") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def supervisor_pid(layout: Layout) -> int | None:
    """Process id of the supervisor of this directory; None when there is none."""
    if not layout.lock.exists():
        return None
    with layout.lock.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(lock.read() or 0) or None
    return None


def log_of_detached(layout: Layout) -> Path:
    """Path of the log of a supervisor in the background."""
    return layout.log("supervisor")
