"""The devices in memory: in, one that was heard of; out, room for it, made by those that were not heard of for long.

A state that is not stored yet is nowhere else: its device stays, also where that makes more of them than wanted. Who
leaves is found by second chance: a hand goes round, and takes who was not used since it came by last. That costs a
reading one flag, where the exact order would cost moving its device in a list.
"""

from typing import Generic, Protocol, TypeVar


class Leaver(Protocol):
    """What may leave memory."""

    used: bool  # since the hand came by; set it whenever it is

    @property
    def stored(self) -> bool:
        """Whether all that is known of it can be read again."""

    def leave(self) -> None:
        """Be forgotten."""


T = TypeVar("T", bound=Leaver)


class Recent(Generic[T]):
    """At most `most` of them, one at least, beside those that are not stored."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ring: list[T] = []
        self._hand = 0
        self._stuck = False  # nobody can leave before more is stored

    def __len__(self) -> int:
        return len(self._ring)

    def add(self, one: T) -> None:
        """Keep one more. It is not the one that leaves, and stays until the next one comes."""
        if len(self._ring) >= self._most:
            self._leave_but(self._most - 1)
        self._ring.append(one)

    def more_stored(self) -> None:
        """Let those leave that had to stay."""
        self._stuck = False
        if len(self._ring) > self._most:
            self._leave_but(self._most)

    def _leave_but(self, most: int) -> None:
        """At most `most` stay. Each is asked twice: at first it may only lose its second chance."""
        ring, hand = self._ring, self._hand
        left = 0 if self._stuck else 2 * len(ring)
        while left and len(ring) > most:
            left -= 1
            hand = hand if hand < len(ring) else 0
            one = ring[hand]
            if one.used or not one.stored:
                one.used = False
                hand += 1
            else:
                one.leave()
                ring[hand] = ring[-1]
                ring.pop()
                hand += 1
        self._hand, self._stuck = hand, len(ring) > most
