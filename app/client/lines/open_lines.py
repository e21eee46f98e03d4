"""Lines that were sent in one stream, until each is settled: in, the outcome of each line; out, where to go on
after a crash.
"""

from collections import deque

from app.client.lines.source import Line


class OpenLines:
    """The lines of one stream in the order they were put into it."""

    def __init__(self) -> None:
        self._lines: deque[Line | None] = deque()  # None: settled, behind a line that is not
        self._base = 0  # the place of the first of them in the stream

    def __len__(self) -> int:
        """The number of lines from the first line on that is not settled."""
        return len(self._lines)

    def put(self, line: Line) -> None:
        """Take the next line of the stream."""
        self._lines.append(line)

    def at(self, place: int) -> Line:
        """The line at a place of the stream, from 0, that is not settled. Raises LookupError for a settled one."""
        line = self._lines[place - self._base] if place >= self._base else None
        if line is None:
            raise LookupError(place)
        return line

    def settle(self, first: int, count: int) -> None:
        """Note that nothing more is to be done for `count` lines from the place `first` on."""
        for index in range(first - self._base, first - self._base + count):
            self._lines[index] = None
        while self._lines and self._lines[0] is None:
            self._lines.popleft()
            self._base += 1

    @property
    def first(self) -> Line | None:
        """The first line that is not settled, all before it are; None: all are."""
        return self._lines[0] if self._lines else None
