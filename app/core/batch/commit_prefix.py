"""How far a partition may be committed: in, offsets taken and done in any order; out, the end of the done prefix."""

from collections import deque

from msgspec import Struct


class _OpenOffset(Struct, eq=False):
    offset: int
    since: float  # when the offset's record was written
    done: bool = False


class CommitPrefix:
    """The offsets of one partition that are taken, and how far all of them are done."""

    def __init__(self) -> None:
        self._open: deque[_OpenOffset] = deque()
        self._by_offset: dict[int, _OpenOffset] = {}
        self.position: int | None = None  # what may be committed; None: nothing yet

    def __len__(self) -> int:
        return len(self._open)

    @property
    def next_offset(self) -> int | None:
        """The first offset that is not done, or that is read next; None before anything was read."""
        return self._open[0].offset if self._open else self.position

    @property
    def oldest(self) -> float | None:
        """When the first record that is not done was written (`since` of `take`); None when all are done."""
        return self._open[0].since if self._open else None

    def take(self, offset: int, since: float) -> None:
        """A record was read, which was written at `since`. A record that was read before is read anew, and so are all
        records after it.
        """
        if self._open and offset <= self._open[-1].offset:
            self._open.clear()
            self._by_offset.clear()
        made = _OpenOffset(offset, since)
        self._open.append(made)
        self._by_offset[offset] = made

    def done(self, offset: int) -> None:
        """Nothing more has to be done about the record at `offset`; an offset that is not known any more is ignored."""
        if found := self._by_offset.pop(offset, None):
            found.done = True
        while self._open and self._open[0].done:
            self.position = self._open.popleft().offset + 1
