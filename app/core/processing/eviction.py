"""The devices in memory: in, one that was read; out, room for it, made by others.

A state that is not stored yet is nowhere else: its device stays, also where that makes more of them than wanted.

Who leaves is drawn. Devices send in turn, so the one that was not heard of for longest is the next one to be: where
there are a fifth more devices than room, two thirds of the readings find theirs in memory, and none if the oldest left.
"""

from collections.abc import Callable
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


class EvictionPool(Generic[T]):
    """As many as weigh `most`, one at least, beside those that are not stored."""

    def __init__(self, most: int, weight: Callable[[T], int] = lambda one: 1) -> None:
        """`weight` is 1 of most of them; tell `heavier` when it changes."""
        self._most, self._of, self._weight = most, weight, 0
        self._all: list[T] = []
        self._drawn = 0
        self._stuck = False  # nobody can leave before more is stored

    def __len__(self) -> int:
        return len(self._all)

    def add(self, one: T) -> None:
        """Keep one more. It is not the one that leaves, and stays until the next one comes."""
        weight = self._of(one)
        if self._weight + weight > self._most:
            self._leave_but(self._most - weight)
        self._all.append(one)
        self._weight += weight

    def heavier(self, by: int) -> None:
        """One that is kept weighs so much more than before; others leave for it when more is stored."""
        self._weight += by

    def more_stored(self) -> None:
        """Let those leave that had to stay."""
        self._stuck = False
        if self._weight > self._most:
            self._leave_but(self._most, least=1)

    def _leave_but(self, most: int, least: int = 0) -> None:
        while self._weight > most and len(self._all) > least and not self._stuck:
            self._stuck = not self._one_leaves()

    def _one_leaves(self) -> bool:
        """The one that is drawn, or the next one that can."""
        kept = self._all
        self._drawn = (self._drawn * 1_103_515_245 + 12_345) & 0x7FFFFFFF  # no better chance is needed
        first = (self._drawn >> 8) % len(kept)
        for place in chain(range(first, len(kept)), range(first)):
            one = kept[place]
            if one.stored:
                self._weight -= self._of(one)
                one.leave()
                kept[place] = kept[-1]
                kept.pop()
                return True
        return False
