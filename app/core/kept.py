"""The devices in memory: in, one that was read; out, room for it, made by others.

A state that is not stored yet is nowhere else: its device stays, also where that makes more of them than wanted.

Who leaves is drawn. Devices send in turn, so the one that was not heard of for longest is the next one to be: where
there are a fifth more devices than room, two thirds of the readings find theirs in memory, and none if the oldest left.
"""

from itertools import chain
from typing import Generic, Protocol, TypeVar


class Leaver(Protocol):
    """What may leave memory."""

    @property
    def stored(self) -> bool:
        """Whether all that is known of it can be read again."""

    def leave(self) -> None:
        """Be forgotten."""


T = TypeVar("T", bound=Leaver)


class Kept(Generic[T]):
    """At most `most` of them, one at least, beside those that are not stored."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: list[T] = []
        self._drawn = 0
        self._stuck = False  # nobody can leave before more is stored

    def __len__(self) -> int:
        return len(self._all)

    def add(self, one: T) -> None:
        """Keep one more. It is not the one that leaves, and stays until the next one comes."""
        if len(self._all) >= self._most:
            self._leave_but(self._most - 1)
        self._all.append(one)

    def more_stored(self) -> None:
        """Let those leave that had to stay."""
        self._stuck = False
        if len(self._all) > self._most:
            self._leave_but(self._most)

    def _leave_but(self, most: int) -> None:
        while len(self._all) > most and not self._stuck:
            self._stuck = not self._one_leaves()

    def _one_leaves(self) -> bool:
        """The one that is drawn, or the next one that can."""
        kept = self._all
        self._drawn = (self._drawn * 1_103_515_245 + 12_345) & 0x7FFFFFFF  # no better chance is needed
        first = (self._drawn >> 8) % len(kept)
        for place in chain(range(first, len(kept)), range(first)):
            one = kept[place]
            if one.stored:
                one.leave()
                kept[place] = kept[-1]
                kept.pop()
                return True
        return False
