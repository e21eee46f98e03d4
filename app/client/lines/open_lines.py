"""Lines that were sent in one stream, until each is settled: in, what became of which; out, where to go on after a
crash.
"""

from collections import deque

from app.client.lines.source import Line


class OpenLines:
    """In the order they were put into a stream."""

    def __init__(self) -> None:
        self._lines: deque[Line | None] = deque()  # None: settled, behind one that is not
        self._base = 0  # the place of the first of them in the stream

    def __len__(self) -> int:
        """Lines from the first one that is not settled on."""
        return len(self._lines)

    def put(self, line: Line) -> None:
        """The next of the stream."""
        self._lines.append(line)

    def at(self, place: int) -> Line:
        """The line at a place of the stream that is not settled. Raises LookupError for any other."""
        line = self._lines[place - self._base] if place >= self._base else None
        if line is None:
            raise LookupError(place)
        return line

    def settle(self, first: int, count: int) -> None:
        """Nothing more is to be done for so many lines."""
        for index in range(first - self._base, first - self._base + count):
            self._lines[index] = None
        while self._lines and self._lines[0] is None:
            self._lines.popleft()
            self._base += 1

    @property
    def first(self) -> Line | None:
        """The first that is not settled; all before it are."""
        return self._lines[0] if self._lines else None
