"""`iot-stream run` and `top` on a terminal of their own: what is drawn, and how they end and leave it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.local.layout import Layout

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"  # the other screen of a terminal, and back
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|\x1b.")


class Terminal:
    """A command with a terminal of 100 x 30."""

    def __init__(self, *words: str | Path) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        environment = {**os.environ, "TERM": "xterm-256color"}
        command = [sys.executable, "-m", "app", *map(str, words)]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=environment
        )
        self.raw = ""

    def read(self) -> str:
        """All that was written so far."""
        while self.master in select.select([self.master], [], [], 0.1)[0]:
            self.raw += os.read(self.master, 1 << 16).decode(errors="replace")
        return self.raw

    @property
    def text(self) -> str:
        """The same without what moves and colours."""
        return ESCAPES.sub("", self.read())

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.master, keys.encode())

    def until(self, true: Callable[[], Any], seconds: float = 60) -> None:
        """Wait, and go on reading, so that it can write."""
        deadline = time.monotonic() + seconds
        while not true():
            self.read()
            assert time.monotonic() < deadline, self.text[-3000:]

    def ended(self, seconds: float = 60) -> int:
        """The exit code of the command. Whatever the command changed of the terminal is as it was."""
        self.until(lambda: self.process.poll() is not None, seconds)
        assert self.read().rfind(LEAVE) > self.raw.rfind(ENTER) >= 0, "the terminal still shows the other screen"
        assert termios.tcgetattr(self.slave)[:4] == self.before[:4], "the terminal is still raw"
        assert self.process.returncode is not None
        return self.process.returncode

    def close(self) -> None:
        """Gone, whatever state it is in."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.until(lambda: self.process.poll() is not None, 90)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def run(server_dir: Path) -> Iterator[Terminal]:
    """`iot-stream run` with its screen up."""
    terminal = Terminal("run", "--dir", server_dir / "stack")
    try:
        terminal.until(lambda: ENTER in terminal.read() and "worker 1" in terminal.text, 150)
        yield terminal
    finally:
        terminal.close()


def pids(directory: Path) -> dict[str, int]:
    """Of the stack's processes."""
    layout = Layout(directory / "stack")
    return {name: int(pid) for name, pid in layout.read_json(layout.pids).items()}


def test_ctrl_c_stops_all_of_it_in_order(run: Terminal, server_dir: Path) -> None:
    running = pids(server_dir)
    assert len(running) == 7
    run.until(lambda: "fleet-" in run.text or re.search(r"received\s+[1-9]", run.text))
    run.type("5")
    run.until(lambda: "env " in run.text)
    os.kill(running["notifier"], signal.SIGKILL)
    run.until(lambda: "notifier ended with signal 9" in run.text)
    run.until(lambda: "notifier started again" in run.text)
    other = Terminal("top", "--dir", server_dir / "stack", "--interval", "0.5")
    try:
        other.until(lambda: "notifier" in other.text and "Stable" in other.text)
        other.process.send_signal(signal.SIGTERM)
        assert other.ended() == 0
    finally:
        other.close()
    running = pids(server_dir)
    run.type("\x03")
    assert run.ended(120) == 0
    assert [name for name, pid in running.items() if psutil.pid_exists(pid)] == []
    assert "stopping" in run.text
    assert "killed" not in run.text
    assert not (server_dir / "stack" / "stack.env").exists()


def test_sigterm_does_the_same(run: Terminal, server_dir: Path) -> None:
    running = pids(server_dir)
    run.process.send_signal(signal.SIGTERM)
    assert run.ended(120) == 0
    assert [name for name, pid in running.items() if psutil.pid_exists(pid)] == []


def test_a_terminal_that_is_closed_ends_it() -> None:
    """With nobody there to read, and without a SIGHUP."""
    terminal = Terminal("top", "--metrics", "127.0.0.1:1", "--interval", "0.2")
    terminal.until(lambda: ENTER in terminal.read() and "refused" in terminal.text)
    os.close(terminal.master)
    os.close(terminal.slave)
    try:
        assert terminal.process.wait(30) in (0, 120), "120: Python could not flush at the end"
    finally:
        terminal.process.kill()
        terminal.process.wait()
