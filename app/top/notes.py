"""Notes of what happened, for the screen: lines in from any thread, the last of them out."""

from collections import deque

LINES = 200


class Notes:
    """The last LINES lines, and the number of all lines so far."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES)
        self.count = 0

    def add(self, line: str) -> None:
        """Add a line. Safe from any thread."""
        self._lines.append(line)
        self.count += 1

    def since(self, count: int) -> list[str]:
        """The lines after the first `count`, as far as they are kept."""
        return list(self._lines)[-new:] if (new := self.count - count) > 0 else []
