"""The directory of a worker's state, its owner's alone: states hold what devices sent, and who they are."""

import os
import re
import stat
from pathlib import Path

from app.errors import MachineError

OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OURS = re.compile(r"v\d+|lost\+found")  # what a worker makes, and what a file system does


def prepare(path: Path) -> None:
    """Make the directory, or take the rights of others away, and set this process's umask to 077.

    A directory that belongs to somebody else stays as it is (Kubernetes gives a volume to root and a group, fsGroup):
    what the worker makes in this directory is the worker's alone. Raises MachineError that names the setting when the
    directory cannot be made or written, or others can read it and it holds what is no state of a worker.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close(path, [one.name for one in path.iterdir() if not _OURS.fullmatch(one.name)])
        for one in path.glob("v[0-9]*"):
            _close(one, [])
        writable = os.access(path, os.W_OK | os.X_OK)
    except OSError as error:
        raise MachineError(f"IOT_STATE_DIR: {path} cannot be used: {error.strerror}") from None
    if not writable:
        raise MachineError(f"IOT_STATE_DIR: {path} cannot be used: this account may not write there")
    os.umask(0o077)  # of all that this process makes from now on


def _close(path: Path, strange: list[str]) -> None:
    """Set the directory to 0700, when it is ours and wider; `strange` is what it holds of others."""
    found = path.stat()
    if found.st_uid != os.geteuid() or not found.st_mode & OTHERS:
        return
    if strange:  # /tmp, or somebody's home
        what = f"others can read {path}, and it holds what is no state of a worker ({strange[0]})"
        raise MachineError(f"IOT_STATE_DIR: {what}: name a directory that is for this worker alone")
    path.chmod(0o700)
    if path.stat().st_mode & OTHERS:
        raise MachineError(f"IOT_STATE_DIR: others can read {path}, and its file system does not let that be changed")
