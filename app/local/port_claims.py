"""The ports that a stack of this machine has chosen, claimed for as long as its supervisor lives.

A port is also taken while nothing listens there: a program of the stack may just be starting again.
"""

import fcntl
import os
import tempfile
from pathlib import Path

from app.errors import PermanentError


class PortClaims:
    """Claims of one process among those of all stacks of this account; the end of the process gives them up."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` has a file a port; None: the one that all stacks of this account share."""
        self._directory = directory or Path(tempfile.gettempdir()) / f"iot-stream-{os.geteuid()}-ports"
        self._held: dict[int, int] = {}  # port -> descriptor of its locked file

    def claim(self, port: int) -> bool:
        """Claim a port; False when another process has claimed it. Raises PermanentError when the directory of claims
        belongs to another account.
        """
        if port in self._held:
            return True
        self._directory.mkdir(mode=0o700, exist_ok=True)
        if self._directory.stat().st_uid != os.geteuid():
            raise PermanentError(f"{self._directory} belongs to another account: remove it")
        lock = os.open(self._directory / str(port), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._held[port] = lock
        return True

    def close(self) -> None:
        """Give all claims up."""
        while self._held:
            os.close(self._held.popitem()[1])
