"""The last words of a program: an error of the operating system is a line with its cure, a bug keeps its traceback."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import BooksError, DeadLetterLimitError, MachineError, PermanentError, SettingsError, TransientError
from app.runtime.ending.exit_codes import ExitCode, last_words

ROOT = Path(__file__).parents[4]
DIRECTORY = "/proc/self/fdinfo/none"  # that nobody may make, root neither


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("IOT_X: wrong"), 2),
        (MachineError("cannot serve"), 2),
        (TransientError("away"), 1),
        (PermanentError("no table"), 1),
        (BooksError("1 != 2"), 1),
        (DeadLetterLimitError("9 in a row"), 3),
        (ExceptionGroup("tasks", [PermanentError("first"), TransientError("second")]), 1),
    ],
)
def test_errors_of_ours(error: Exception, code: int) -> None:
    said = last_words(error)
    assert said is not None
    assert (said.code, said.line.startswith("iot-stream: ")) == (code, True)


@pytest.mark.parametrize("error", [ValueError("a bug"), ExceptionGroup("x", [TransientError("t"), KeyError("a bug")])])
def test_a_bug_has_no_last_words(error: Exception) -> None:
    assert last_words(error) is None


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, 2), (errno.EROFS, 2), (errno.ENOENT, 2), (errno.ENOTDIR, 2), (errno.EADDRINUSE, 2),
        (errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EMFILE, 1), (errno.EIO, 1), (errno.ECONNREFUSED, 1),
    ],
)  # fmt: skip
def test_errors_of_the_operating_system(number: int, code: int) -> None:
    said = last_words(OSError(number, os.strerror(number), "/a/b"))
    assert said is not None
    assert said.line.startswith(f"iot-stream: /a/b: {os.strerror(number)}")
    assert said.code == code
    assert ("; " in said.line) == (number != errno.ECONNREFUSED), "with its cure"


def ended(*words: str, output: str = os.devnull, **environment: str) -> tuple[int, str]:
    """The exit code of a command whose output goes into the file `output`, and what it says beside that."""
    with Path(output).open("w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "app", *words], cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True, check=False,
            stdin=subprocess.DEVNULL, env=_without_settings() | environment,
        )  # fmt: skip
    return done.returncode, done.stderr


def _without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("IOT_")}


@pytest.mark.parametrize("words", [("up",), ("run",), ("up", "--detach")], ids=" ".join)
def test_a_directory_that_cannot_be_made_is_one_line(words: tuple[str, ...]) -> None:
    code, said = ended(*words, "--dir", DIRECTORY)
    assert code == ExitCode.WRONG
    assert said.splitlines() == [
        f"iot-stream: {DIRECTORY}: No such file or directory; make its directory, or name another place"
    ]


@pytest.mark.parametrize("words", [("--version",), ("--help",), ("schema", "sql")], ids=" ".join)
def test_a_full_disk_is_one_line(words: tuple[str, ...]) -> None:
    code, said = ended(*words, output="/dev/full")
    assert code == ExitCode.FAILED
    (line,) = said.splitlines()
    assert line.startswith("iot-stream: No space left on device; make room")
