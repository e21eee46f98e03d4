"""The directory of a worker's state is its owner's alone."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import MachineError
from app.tables.state_directory import prepare


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_it_is_made_so_and_what_is_made_in_it_too(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    prepare(state)
    (state / "v1").mkdir()
    (state / "v1" / "CURRENT").write_text("x")
    assert [mode(state), mode(state / "v1"), mode(state / "v1" / "CURRENT")] == [0o700, 0o700, 0o600]
    prepare(state)


def test_a_wider_one_of_ours_is_closed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "v1" / "tables").mkdir(parents=True)
    (state / "lost+found").mkdir()
    for one in (state, state / "v1"):
        one.chmod(0o2777)
    prepare(state)
    assert [mode(state), mode(state / "v1")] == [0o700, 0o700]


def test_one_that_holds_what_is_not_ours_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("x")
    tmp_path.chmod(0o755)
    with pytest.raises(MachineError, match=r"IOT_STATE_DIR: others can read .*letters\.txt"):
        prepare(tmp_path)
    assert mode(tmp_path) == 0o755
    tmp_path.chmod(0o700)
    prepare(tmp_path)


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        with pytest.raises(MachineError, match="IOT_STATE_DIR"):
            prepare(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")
def test_a_volume_of_kubernetes_belongs_to_root_and_a_group(tmp_path: Path) -> None:
    """As fsGroup leaves it: root's, 2775; the worker is of the group. A child process is not root."""
    volume = tmp_path / "volume"
    (volume / "v1").mkdir(parents=True)
    os.chown(volume, 0, 10001)
    volume.chmod(0o2775)
    os.chown(volume / "v1", 10001, 10001)
    (volume / "v1").chmod(0o2775)
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == 0 and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([10001])
            os.setgid(10001)
            os.setuid(10001)
            prepare(volume)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [volume.stat().st_mode & 0o7777, mode(volume / "v1")] == [0o2775, 0o700]
