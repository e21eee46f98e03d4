"""A worker that kills itself (-9) after one step of the path: the step is in the file that $DIE_AFTER names.

The first batch with a row or a command arms it, so whoever writes the file sends one message. The file goes first, so
that the worker lives when it is started again.
"""

import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from faust.cli.faust import cli

from app.core.batch.batch import Batch
from app.core.batch.output import BatchOutput
from app.pipeline.pipeline import Pipeline
from app.ports import Process

# In the order of the path: the step's name, its port and method. "process" is no port's.
PORTS = {
    "dead_letters": ("dead_letters", "send"),
    "store": ("store", "write"),
    "outbox": ("outbox", "send"),
    "states": ("states", "put"),
    "ack": ("ledger", "batch_done"),
}
STEPS = ("process", *PORTS)


class Death:
    """Comes after a step, once armed."""

    def __init__(self, orders: Path) -> None:
        self._orders, self.armed = orders, False

    def after(self, step: str) -> None:
        """Die, if this is the step."""
        if self.armed and self._orders.exists() and self._orders.read_text() == step:
            self._orders.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


class Mortal:
    """A port that does what the real one does, and then may die."""

    def __init__(self, step: str, port: Any, death: Death) -> None:
        self._step, self._port, self._death = step, port, death

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name != PORTS[self._step][1]:
            return found
        return self._at_once if self._step == "ack" else self._later

    def _at_once(self, *arguments: Any) -> None:
        self._port.batch_done(*arguments)
        self._death.after(self._step)

    async def _later(self, *arguments: Any) -> Any:
        answer = await getattr(self._port, PORTS[self._step][1])(*arguments)
        self._death.after(self._step)
        return answer


class MortalProcess:
    """Step 2, after which it may die."""

    def __init__(self, process: Process, death: Death) -> None:
        self._process, self._death, self.closed = process, death, process.closed

    def run_sliced(self, batch: Batch, now: float) -> Generator[None, None, BatchOutput]:
        work = yield from self._process.run_sliced(batch, now)
        self._death.armed = self._death.armed or bool(work.rows or work.commands)
        self._death.after("process")
        return work


def make_mortal(pipeline: Pipeline, death: Death) -> None:
    """Let the path die after each of its steps."""
    pipeline._process = MortalProcess(pipeline._process, death)
    for step, (port, _) in PORTS.items():
        object.__setattr__(pipeline._ports, port, Mortal(step, getattr(pipeline._ports, port), death))


def run() -> None:
    """Be `faust -A app worker`."""
    from app.worker import bootstrap

    make_mortal(bootstrap.worker.parts.pipeline, Death(Path(os.environ["DIE_AFTER"])))
    sys.argv = ["faust", "-A", "app", "worker", "-l", "warn", "--without-web"]
    cli()


if __name__ == "__main__":
    run()
