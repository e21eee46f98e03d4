"""The ports that a stack of this machine has chosen, claimed for as long as its supervisor lives.

A port is also taken while nothing listens there: a program of the stack may just be starting again.
"""

import fcntl
import os
from pathlib import Path

from app.local.account_directory import AccountDirectory


class PortClaims:
    """Claims of one process among those of all stacks of this account; the end of the process gives them up."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` has a file a port; None: the one that all stacks of this account share."""
        self._directory = AccountDirectory(directory)
        self._held: dict[int, int] = {}  # port -> descriptor of its locked file

    def claim(self, port: int) -> bool:
        """Claim a port; False when another process has claimed it. Raises MachineError as AccountDirectory.open."""
        if port in self._held:
            return True
        lock = self._directory.open(str(port))
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
