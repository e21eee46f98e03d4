"""Timers by the thousand: armed in O(1), and a look at what is due costs what is due, however many others wait."""

from collections.abc import Iterator
from math import ceil, floor
from typing import Generic, TypeVar

T = TypeVar("T")


class TimingWheel(Generic[T]):
    """Timers in slots of `tick` seconds. An unwanted timer stays: the caller that takes out its item asks the item."""

    def __init__(self, tick: float) -> None:
        self._tick = tick
        self._slots: dict[int, list[T]] = {}
        self._emptied: int | None = None  # up to here all slots were taken

    def arm(self, item: T, at: float) -> None:
        """Let `item` be due at time `at` or up to a tick later; at the next look when that time is past."""
        slot = ceil(at / self._tick)
        if self._emptied is not None and slot <= self._emptied:
            slot = self._emptied + 1
        waiting = self._slots.get(slot)
        if waiting is None:
            self._slots[slot] = [item]
        else:
            waiting.append(item)

    def due(self, now: float) -> Iterator[T]:
        """Take out the items that are due, earlier slots first; an item armed meanwhile comes at the next look at the
        earliest.
        """
        until = floor(now / self._tick)
        if self._emptied is not None and until <= self._emptied:
            return
        first, self._emptied = self._emptied, until
        if first is None or until - first > len(self._slots):
            slots = sorted(slot for slot in self._slots if slot <= until)
        else:
            slots = [slot for slot in range(first + 1, until + 1) if slot in self._slots]
        for items in [self._slots.pop(slot) for slot in slots]:
            yield from items

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))
