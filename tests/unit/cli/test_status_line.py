"""Lines that give way on a terminal, and are lines in a pipe."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """from app.cli.status_line import StatusLine
line = StatusLine()
line.meanwhile("waiting for kafka (2 s)")
line.waiting("kafka", 4.0)
line.say("kafka is ready")
line.clear()"""
ROOT = Path(__file__).parents[3]
CLEAR = "\r\x1b[K"


def on_a_terminal(kind: str) -> str:
    """What a terminal of that kind is sent."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": kind, "COLUMNS": "60"}
    subprocess.run([sys.executable, "-c", CODE], stderr=slave, env=environment, cwd=ROOT, check=True)
    os.close(slave)
    said = os.read(master, 10_000).decode()
    os.close(master)
    return said.replace("\r\n", "\n")


def test_a_terminal() -> None:
    assert on_a_terminal("xterm") == (
        f"{CLEAR}waiting for kafka (2 s){CLEAR}waiting for kafka (4 s){CLEAR}kafka is ready\n"
    )


LINES = "waiting for kafka (2 s)\nwaiting for kafka (4 s)\nkafka is ready\n"


def test_a_terminal_that_moves_no_cursor() -> None:
    assert on_a_terminal("dumb") == LINES


def test_a_pipe() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=ROOT, check=True)
    assert (done.stdout, done.stderr) == ("", LINES)


@pytest.mark.parametrize("code", [0, 1])
def test_setup_says_how_far_it_is(tmp_path: Path, code: int) -> None:
    """scripts/progress around a pip of the shell's, which goes on once its packages were told of."""
    wait = "until [ -e told ]; do sleep 0.05; done; rm told"
    pip = f"echo Collecting a; echo Collecting b; {wait}; mkdir a-1.dist-info; {wait}; echo the reason; exit {code}"
    command = [sys.executable, str(ROOT / "scripts" / "progress"), str(tmp_path), "3", "--", "sh", "-c", pip]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as run:
        assert run.stdout
        for words in ("setup: 2 of 3 packages are fetched and checked (", "setup: 1 of 3 packages are installed ("):
            while not run.stdout.readline().startswith(words):
                assert run.poll() is None
            (tmp_path / "told").touch()
        _, error = run.communicate(timeout=60)
    assert (run.returncode, error) == (code, "Collecting a\nCollecting b\nthe reason\n" if code else "")
