"""Marks of the last messages of one device, in the order in which they came; a part of its state."""

from msgspec import Struct

LAST = 32  # messages that are known at least
WITHIN_MS = 5000  # and all that came in within so long, as a bridge may have thousands in flight of a fast device ...
MOST = 1024  # ... up to so many
SIZE = 5  # bytes of a mark: two messages of one device have the same with a chance of 10**-11


class MessageMarks(Struct, array_like=True):
    """Marks in two halves: when the newer half is full the older half goes.

    Encoded as an array: add fields only at the end and with defaults.
    """

    since_ms: int = 0  # when the first of the newer half came
    newer: bytes = b""
    older: bytes = b""

    def add(self, mark: bytes, at_ms: int) -> None:
        """Keep one more mark, the newest, of a message that came `at_ms` (milliseconds since 1970)."""
        size = len(self.newer)
        if size >= SIZE * LAST and (size >= SIZE * MOST or not 0 <= at_ms - self.since_ms < WITHIN_MS):
            self.older, self.newer = self.newer, b""
        if not self.newer:
            self.since_ms = at_ms
        self.newer += mark

    def has(self, mark: bytes) -> bool:
        """Whether the mark is kept."""
        return _is_in(mark, self.newer) or _is_in(mark, self.older)


def _is_in(mark: bytes, marks: bytes) -> bool:
    at = marks.find(mark)
    while at % SIZE > 0 and at >= 0:
        at = marks.find(mark, at + 1)
    return at >= 0
