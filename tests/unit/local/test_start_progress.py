"""What a start says of itself: when a step is done, and every two seconds what is under way."""

import threading
from pathlib import Path

import pytest

from app.errors import PermanentError
from app.local import start_progress
from app.local.servers.followed import followed
from app.local.start_progress import StartProgress


def test_steps_are_counted() -> None:
    said: list[str] = []
    progress = StartProgress(said.append)
    progress.expect(2)
    with progress.step("kafka"):
        progress.note("kafka", "fetching Kafka: 12 files")
        assert progress.line() == "waiting for kafka (0 s, fetching Kafka: 12 files)"
        with progress.step("postgres"):
            assert progress.line() == "waiting for kafka (0 s, fetching Kafka: 12 files), postgres (0 s)"
    assert progress.line() == ""
    assert [one.rpartition(" after ")[0] for one in said] == ["1 of 2: postgres is ready", "2 of 2: kafka is ready"]


def test_a_step_that_fails_is_not_ready() -> None:
    said: list[str] = []
    progress = StartProgress(said.append)
    with pytest.raises(PermanentError), progress.step("kafka"):
        raise PermanentError("no Java")
    assert (said, progress.line()) == ([], "")


def test_long_steps_are_told_of_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_progress, "SECONDS", 0.01)
    told, twice = list[str](), threading.Event()

    def meanwhile(line: str) -> None:
        told.append(line)
        if len(told) == 2:
            twice.set()

    with StartProgress(lambda _: None, meanwhile) as progress, progress.step("kafka"):
        assert twice.wait(10)
    assert all(line.startswith("waiting for kafka (") for line in told)


def test_a_command_is_followed_line_by_line(tmp_path: Path) -> None:
    seen: list[str] = []
    done = followed(["sh", "-c", 'echo "$GREETING"; echo two >&2; exit 3'], seen.append, {"GREETING": "one"})
    assert (done.returncode, done.stdout, seen) == (3, "one\ntwo\n", ["one", "two"])
