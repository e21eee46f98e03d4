"""Bytes as they come -> whole lines, so many at a time; what is kept is bounded, and each step costs its length."""


class LineBuffer:
    """The bytes of one connection. Lines end with a line feed, which is taken off."""

    def __init__(self, max_bytes: int) -> None:
        """Of a line longer than `max_bytes` the first `max_bytes` + 1 are kept: then the line is too long."""
        self._most = max_bytes + 1
        self._begun = bytearray()  # a line that has not ended
        self._waiting = b""  # begins with its rest
        self.more = False  # whether a whole line is there
        self.taken = 0  # bytes of the lines that were taken last, as they came, with their ends

    @property
    def begun(self) -> int:
        """How many bytes there are of a line that has not ended, while there is no whole one."""
        return len(self._begun)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return len(self._begun) + len(self._waiting)

    @property
    def first(self) -> bytes:
        """The first 64 bytes of the line that `begun` counts."""
        return bytes(self._begun[:64])

    def feed(self, data: bytes) -> None:
        """Add bytes that came."""
        self._waiting = self._waiting + data if self._waiting else data
        self._settle()

    def take(self, most: int) -> list[bytes]:
        """The next lines that are whole, at most so many; a line that is too long is cut after `max_bytes`
        + 1 bytes.
        """
        if not self.more:
            return []
        lines = self._waiting.split(b"\n", most)
        longest = len(self._waiting) + len(self._begun)
        self._waiting = lines.pop()
        self.taken = longest - len(self._waiting)
        if self._begun:
            lines[0] = bytes(self._begun) + lines[0]
            self._begun.clear()
        if longest >= self._most:
            lines = [line[: self._most] for line in lines]
        self._settle()
        return lines

    def put_back(self, line: bytes) -> None:
        """Put back the line that was taken last, and alone: it is to be taken again."""
        self._waiting = line + b"\n" + bytes(self._begun) + self._waiting
        self._begun.clear()
        self._settle()

    def clear(self) -> None:
        """Forget everything."""
        self._begun.clear()
        self._waiting, self.more = b"", False

    def _settle(self) -> None:
        self.more = b"\n" in self._waiting
        if not self.more:
            self._begun += self._waiting[: self._most - len(self._begun)]
            self._waiting = b""
