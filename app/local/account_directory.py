"""The directory that all stacks of one account share on this machine: claims of ports, and locks of what only one may
do at a time. It is where files of short life are, so any account may have put something else in its place.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import MachineError


class AccountDirectory:
    """A directory of this account alone. No symbolic link is followed, neither to it nor in it."""

    def __init__(self, path: Path | None = None) -> None:
        """`path` None: the one of this account. It is made when it is first needed."""
        self.path = path or Path(tempfile.gettempdir()) / f"iot-stream-{os.geteuid()}-ports"

    def open(self, name: str) -> int:
        """A descriptor of the file `name` to be locked, which is made where it is missing. Raises MachineError when
        something else is in the place of the directory, or when other accounts may write into it.
        """
        directory = self._open()
        try:
            return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=directory)
        except OSError as error:
            raise MachineError(f"{self.path / name} cannot be used: {error.strerror}; remove it") from None
        finally:
            os.close(directory)

    def _open(self) -> int:
        """A descriptor of the directory: what is looked at is what is used, whatever is put in its place meanwhile."""
        path = self.path
        cure = "remove it, or name another place for such files: TMPDIR"
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            found = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except (FileExistsError, NotADirectoryError):  # a symbolic link is no directory either, wherever it leads
            raise MachineError(f"{path} is to be a directory, and is none: {cure}") from None
        except OSError as error:
            raise MachineError(f"{path} cannot be used: {error.strerror}; {cure}") from None
        status = os.fstat(found)
        if status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return found
        os.close(found)
        if status.st_uid != os.geteuid():
            raise MachineError(f"{path} belongs to another account (uid {status.st_uid}): {cure}")
        raise MachineError(f"other accounts may write into {path}: chmod 700 {path}, or {cure}")


@contextmanager
def one_at_a_time(name: str, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Wait until no other process of this account is in such a block of the same `name`; `waits` is called first where
    another is. Raises MachineError.
    """
    lock = AccountDirectory().open(f"{name}.lock")
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
