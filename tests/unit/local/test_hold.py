"""The worker of a local stack is stopped while a command holds it, and starts again however the command ends."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.errors import PermanentError
from app.local import hold
from app.local.hold import is_held, worker_held
from app.local.layout import Layout
from app.local.own_program import Program
from app.local.servers.process import ChildProcess
from app.local.supervisor import Supervisor
from app.local.waits import wait_for

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
HOLDER = """
import pathlib, sys, time
from app.local.hold import worker_held
from app.local.layout import Layout
with worker_held(Layout(pathlib.Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(600)
"""


class Supervised:
    """A supervisor with two programs, which looks at them all the time, as `up` does."""

    def __init__(self, layout: Layout) -> None:
        self.said: list[str] = []
        self.supervisor = Supervisor(layout, self.said.append)
        self.programs = {
            name: Program(ChildProcess(name, SLEEP, layout.log(name)), None, 10.0) for name in ("bridge", "worker")
        }
        for name, program in self.programs.items():
            self.supervisor.start(name, program)

    def pid(self, name: str) -> int:
        """The process id of a program; 0 while it does not run."""
        process = self.programs[name].process
        return process.pid if process.alive() else 0

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Looks at the programs, for the block."""
        over = threading.Event()

        def tick() -> None:
            while not over.wait(0.01):
                self.supervisor.tick()

        thread = threading.Thread(target=tick)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.supervisor.stop(self.programs)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_the_worker_alone_is_stopped_and_comes_back_at_once(layout: Layout) -> None:
    stack = Supervised(layout)
    bridge, worker = stack.pid("bridge"), stack.pid("worker")
    with stack.ticking():
        assert not is_held(layout)
        with worker_held(layout):
            assert is_held(layout)
            assert (stack.pid("bridge"), stack.pid("worker")) == (bridge, 0)
            assert "worker" not in layout.read_json(layout.pids)
            assert not wait_for(lambda: stack.pid("worker") != 0, 0.3), "it is not started while it is held"
        assert wait_for(lambda: stack.pid("worker") not in (0, worker), 10.0)
        assert not is_held(layout)
    assert [line for line in stack.said if line.startswith("worker")][-1] == "worker started again"
    assert not [line for line in stack.said if "ended" in line], "no death is reported"


def test_a_killed_command_holds_nothing(layout: Layout) -> None:
    stack = Supervised(layout)
    worker = stack.pid("worker")
    with stack.ticking():
        command = [sys.executable, "-c", HOLDER, str(layout.root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as holder:
            assert holder.stdout
            assert holder.stdout.readline() == b"held\n"
            assert stack.pid("worker") == 0
            holder.kill()
        assert wait_for(lambda: stack.pid("worker") not in (0, worker), 10.0)


def test_one_command_at_a_time(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "LOCK_SECONDS", 0.1)
    refused = pytest.raises(PermanentError, match="another command keeps the worker stopped")
    with worker_held(layout), refused, worker_held(layout):
        pass
