"""The UNIX socket of the gateway: in, a path; out, one server has it, with mode 0660, and leaves nothing.

gRPC binds a path whoever has it: a second server would take it from the first, which goes on and hears nobody. So who
holds the lock on `<path>.lock` may bind, and nobody else. The kernel frees the lock of a process that was killed; what
it left at the path is then removed.
"""

import fcntl
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from app.errors import MachineError, SettingsError

MODE = 0o660  # accounts that may use the socket are in its group
LONGEST = 107  # bytes of a path that a socket address holds
CURE = "stop it, or set IOT_GRPC_SOCKET to another path"


class SocketFile:
    """`claim`, then bind `address` within `private`, then `bound`; `release` at the end, in any case."""

    def __init__(self, path: Path, group: str | None = None) -> None:
        """`group` has the socket; None: the group of this process. Raises SettingsError for a path that is too long."""
        self.path = path.absolute()
        self._lock_path = self.path.with_name(self.path.name + ".lock")
        self._group = group
        self._lock: int | None = None
        self._bound: tuple[int, int] | None = None  # device and inode
        if len(os.fsencode(self.path)) > LONGEST:
            raise SettingsError(f"IOT_GRPC_SOCKET: {self.path} is longer than the {LONGEST} bytes a socket may have")

    @property
    def address(self) -> str:
        """The address of the socket as gRPC wants it."""
        return f"unix:{quote(str(self.path))}"

    @property
    def intact(self) -> bool:
        """Whether the path still leads to the socket that was bound."""
        return self._bound is not None and _identity(self.path) == self._bound

    def claim(self) -> None:
        """Take the lock, and remove what a server that was killed left. Raises MachineError that says who has it."""
        self._lock = self._locked()
        try:
            self._make_way()
        except MachineError:
            self.release()
            raise

    @contextmanager
    def private(self) -> Iterator[None]:
        """Bind within this: there is no moment at which others could connect. Changes the umask of the process
        meanwhile.
        """
        before = os.umask(0o777 & ~MODE)
        try:
            yield
        finally:
            os.umask(before)

    def bound(self) -> None:
        """Note that the socket is there, and give it its group and mode. Raises MachineError when the group cannot
        have it.
        """
        self._bound = _identity(self.path)
        if self._group is not None:
            try:
                shutil.chown(self.path, group=self._group)
            except (LookupError, OSError) as error:
                raise MachineError(
                    f"the group {self._group} cannot have {self.path} ({_brief(error)}): see IOT_GRPC_SOCKET_GROUP"
                ) from None
        self.path.chmod(MODE)

    def release(self) -> None:
        """Remove the socket and the lock; safe at any time and twice. What is somebody else's stays."""
        if self._lock is None:
            return
        if self.intact:
            with suppress(OSError):
                self.path.unlink()
        with suppress(OSError):
            self._lock_path.unlink()
        os.close(self._lock)
        self._lock = self._bound = None

    def _locked(self) -> int:
        """The lock's descriptor."""
        while True:
            try:
                lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise MachineError(
                    f"{self._lock_path} cannot be made ({_brief(error)}): make its directory, or set IOT_GRPC_SOCKET"
                ) from None
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                owner = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
                os.close(lock)
                raise MachineError(
                    f"another server has {self.path}{f' (process {owner})' if owner else ''}: {CURE}"
                ) from None
            found = os.fstat(lock)
            if (found.st_dev, found.st_ino) == _identity(self._lock_path):
                os.ftruncate(lock, 0)
                os.pwrite(lock, b"%d\n" % os.getpid(), 0)
                return lock
            os.close(lock)  # whoever had it has stopped, and removed the file under this descriptor

    def _make_way(self) -> None:
        """Remove a socket that nobody listens on."""
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise MachineError(f"{self.path} cannot be looked at ({_brief(error)}): set IOT_GRPC_SOCKET") from None
        if not stat.S_ISSOCK(found.st_mode):
            raise MachineError(f"{self.path} exists and is no socket: remove the file, or set IOT_GRPC_SOCKET")
        if _somebody_listens(self.path):
            raise MachineError(f"another program listens on {self.path}, without our lock: {CURE}")
        try:
            self.path.unlink()
        except OSError as error:
            raise MachineError(f"{self.path} of a server that is gone cannot be removed ({_brief(error)})") from None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _somebody_listens(path: Path) -> bool:
    """Whether a connection is taken, or would be; only a refusal says that nobody is there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # its backlog is full, or it is another account's
    return True


def _brief(error: BaseException) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
