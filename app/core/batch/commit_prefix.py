"""How far a partition may be committed: in, offsets taken and done in any order; out, the end of what is all done."""

from collections import deque

from msgspec import Struct


class _OpenOffset(Struct, eq=False):
    offset: int
    since: float  # when its record was written
    done: bool = False


class CommitPrefix:
    """Of one partition."""

    def __init__(self) -> None:
        self._open: deque[_OpenOffset] = deque()
        self._by_offset: dict[int, _OpenOffset] = {}
        self.position: int | None = None  # what may be committed; None: nothing yet

    def __len__(self) -> int:
        return len(self._open)

    @property
    def next_offset(self) -> int | None:
        """The first one that is not done, or that is read next; None before anything was read."""
        return self._open[0].offset if self._open else self.position

    @property
    def oldest(self) -> float | None:
        """When the first record that is not done was written; None when all are done."""
        return self._open[0].since if self._open else None

    def take(self, offset: int, since: float) -> None:
        """A record was read. One that was read before is read anew, and so is all that came after it."""
        if self._open and offset <= self._open[-1].offset:
            self._open.clear()
            self._by_offset.clear()
        made = _OpenOffset(offset, since)
        self._open.append(made)
        self._by_offset[offset] = made

    def done(self, offset: int) -> None:
        """Nothing more has to be done about the record; nor about one that is not known any more."""
        if found := self._by_offset.pop(offset, None):
            found.done = True
        while self._open and self._open[0].done:
            self.position = self._open.popleft().offset + 1
