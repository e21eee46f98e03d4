"""The devices in memory: in, a device that was read; out, room for this device, made by other devices that leave.

A state that is not stored yet is nowhere else: its device stays, also where this keeps more devices than wanted.

Which device leaves is drawn. Devices send in turn, so the device that was silent for longest is the next to send: with
a fifth more devices than room, two thirds of the readings find their device in memory, and none if the oldest left.
"""

from collections.abc import Callable
from itertools import chain
from typing import Generic, Protocol, TypeVar


class Leaver(Protocol):
    """Something that may leave memory, as a CachedDevice."""

    @property
    def stored(self) -> bool:
        """Whether all that is known can be read again."""

    def leave(self) -> None:
        """Leave memory."""


T = TypeVar("T", bound=Leaver)


class EvictionPool(Generic[T]):
    """Keeps as many items as weigh `most` together, at least one item, beside all items that are not stored."""

    def __init__(self, most: int, weight: Callable[[T], int] = lambda one: 1) -> None:
        """`weight` is 1 for most items; `heavier` has to be called when a weight changes."""
        self._most, self._of, self._weight = most, weight, 0
        self._all: list[T] = []
        self._drawn = 0
        self._stuck = False  # nobody can leave before more is stored

    def __len__(self) -> int:
        return len(self._all)

    def add(self, one: T) -> None:
        """Keep the item `one` too, which does not leave before the next item comes."""
        weight = self._of(one)
        if self._weight + weight > self._most:
            self._leave_but(self._most - weight)
        self._all.append(one)
        self._weight += weight

    def heavier(self, by: int) -> None:
        """Something that is kept weighs `by` more than before; other items leave when more is stored."""
        self._weight += by

    def more_stored(self) -> None:
        """More is stored: let leave what had to stay."""
        self._stuck = False
        if self._weight > self._most:
            self._leave_but(self._most, least=1)

    def _leave_but(self, most: int, least: int = 0) -> None:
        while self._weight > most and len(self._all) > least and not self._stuck:
            self._stuck = not self._one_leaves()

    def _one_leaves(self) -> bool:
        """Let the drawn item leave, or the next item that can; returns whether an item left."""
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
