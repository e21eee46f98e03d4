"""Lines on standard error, of which some give way to the next: on a terminal each of those stands in the same place.

In a pipe, a file or a terminal that cannot move its cursor, every line is a line.
"""

import shutil
import sys
import threading
from contextlib import suppress

from app.cli.options import moves_cursor, say

_CLEAR = "\r\x1b[K"


class StatusLine:
    """One standard error, written to by several threads."""

    def __init__(self) -> None:
        self._lock, self._standing = threading.Lock(), False
        self._moves = moves_cursor()

    def say(self, line: str) -> None:
        """A line that stays."""
        with self._lock:
            self._clear()
            say(line)

    def meanwhile(self, line: str) -> None:
        """A line that the next one replaces, where that can be."""
        if not self._moves:
            self.say(line)
            return
        with self._lock, suppress(OSError):
            self._standing = True
            print(f"{_CLEAR}{line[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)

    def waiting(self, what: str, seconds: float) -> None:
        """Say, with `meanwhile`, for how long `what` has been waited for."""
        self.meanwhile(f"waiting for {what} ({seconds:.0f} s)")

    def clear(self) -> None:
        """Take away the line that stands there, before something else is written."""
        with self._lock:
            self._clear()

    def _clear(self) -> None:
        if self._standing:
            self._standing = False
            with suppress(OSError):
                print(_CLEAR, end="", file=sys.stderr, flush=True)
