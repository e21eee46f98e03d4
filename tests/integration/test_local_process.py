"""A child process: started, found dead, stopped hard and soft, taken over by pid."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.errors import PermanentError, TransientError
from app.local.servers.common import wait_until_ready
from app.local.servers.process import ChildProcess

pytestmark = pytest.mark.integration

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def python(tmp_path: Path, code: str) -> ChildProcess:
    return ChildProcess("sample", [sys.executable, "-c", code], tmp_path / "log" / "sample.log")


def test_stop_is_soft_when_it_can_be(tmp_path: Path) -> None:
    process = python(tmp_path, "import time; time.sleep(60)")
    process.start()
    assert process.alive()
    assert process.stop((signal.SIGTERM, 5.0))
    assert not process.alive()
    assert process.exit_code == -signal.SIGTERM


def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    process = python(tmp_path, DEAF)
    process.start()
    wait_until_ready(process, lambda: "up" in process.tail(), 10)
    assert not process.stop((signal.SIGTERM, 0.2))
    assert process.exit_code == -signal.SIGKILL


def test_a_process_that_dies_while_starting_is_reported_with_its_last_words(tmp_path: Path) -> None:
    process = python(tmp_path, "raise SystemExit('no such topic')")
    process.start()
    with pytest.raises(TransientError, match="no such topic"):
        wait_until_ready(process, lambda: False, 10)


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    process = ChildProcess("sample", ["/does/not/exist"], tmp_path / "log")
    with pytest.raises(PermanentError, match="/does/not/exist"):
        process.start()


def test_adopted_by_pid_and_start_time_only(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as other:
        first = ChildProcess("first", [], tmp_path / "a")
        assert not first.adopt(other.pid, 1.0), "a pid alone may be anybody by now"
        assert first.adopt(other.pid, psutil.Process(other.pid).create_time())
        assert first.pid == other.pid
        first.signal(signal.SIGTERM)
        other.wait(10)
        assert not first.alive()
