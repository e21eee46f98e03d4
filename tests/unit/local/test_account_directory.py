"""What somebody has put where an account keeps its claims and locks: refused, and never followed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import MachineError
from app.local.account_directory import AccountDirectory


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "ports"


def refused(path: Path, words: str) -> None:
    with pytest.raises(MachineError, match=words) as found:
        AccountDirectory(path).open("9000")
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)


def test_it_is_made_for_this_account_alone(place: Path) -> None:
    os.close(AccountDirectory(place).open("9000"))
    assert [path.stat().st_mode & 0o777 for path in (place, place / "9000")] == [0o700, 0o600]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_not_followed_wherever_it_leads(place: Path, tmp_path: Path, there: bool) -> None:
    target = tmp_path / "target"
    if there:
        target.mkdir(mode=0o700)
    place.symlink_to(target)
    refused(place, "is to be a directory, and is none: remove it")
    assert not target.exists() or not list(target.iterdir())


def test_a_link_within_it_is_not_followed(place: Path, tmp_path: Path) -> None:
    place.mkdir(mode=0o700)
    (place / "9000").symlink_to(tmp_path / "victim")
    refused(place, "9000 cannot be used: .*; remove it")
    assert not (tmp_path / "victim").exists()


def test_a_plain_file_is_no_traceback(place: Path) -> None:
    place.write_text("")
    refused(place, "is to be a directory, and is none")


def test_what_others_may_write_into_is_not_used(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)
    refused(place, "other accounts may write into .*: chmod 700 ")
    place.chmod(0o700)
    os.close(AccountDirectory(place).open("9000"))


def test_a_directory_of_another_account_is_not_used(place: Path) -> None:
    place.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(place, 4711, 4711)
    else:
        place = Path("/usr")
    refused(place, "belongs to another account")


@pytest.mark.parametrize("detached", [(), ("--detach",)], ids=["here", "detached"])
def test_up_ends_with_one_line_before_anything_starts(tmp_path: Path, detached: tuple[str, ...]) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    claims = temporary / f"iot-stream-{os.geteuid()}-ports"
    claims.symlink_to(tmp_path)
    command = [sys.executable, "-m", "app", "up", "--no-fleet", "--dir", str(tmp_path / "local"), *detached]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, done.stderr
    line = f"iot-stream: {re.escape(str(claims))} is to be a directory, and is none: .*"
    assert re.fullmatch(line, done.stderr.splitlines()[0]), done.stderr
    assert len(done.stderr.splitlines()) == 1 + len(detached)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local", "tmp"]
