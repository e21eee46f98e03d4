"""Memory for frames that are large and not yet whole: so many bytes for all connections, and whose turn it is.

Each has all of what its frame needs, or waits and may send nothing: so those who have it can end what they began, and a
thousand connections that begin large frames at once take no more than this. Once half of it is taken, one owner has a
quarter at most, and owners have it in turn: an owner that only begins frames holds up itself.
"""

from collections import Counter, deque
from collections.abc import Callable

SHARE = 4  # of one owner, once half is taken: so many parts


class Claim:
    """What one frame needs."""

    __slots__ = ("granted", "owner", "size", "wake")

    def __init__(self, owner: str, size: int, wake: Callable[[], None]) -> None:
        self.owner, self.size, self.wake, self.granted = owner, size, wake, False


class Reserve:
    """Of a gateway."""

    def __init__(self, size: int) -> None:
        """`size`: bytes; at least that of the largest frame."""
        self._free, self._half, self._share = size, size // 2, size // SHARE
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[Claim]] = {}  # by owner, whose turn is next first

    def claim(self, owner: str, size: int, wake: Callable[[], None]) -> Claim:
        """Ask for `size` bytes; when they are not granted at once, `wake` is called as soon as they are."""
        made = Claim(owner, size, wake)
        self._waiting.setdefault(owner, deque()).append(made)
        self._grant_what_may_be(made)
        return made

    def give(self, claim: Claim) -> None:
        """The frame is whole, or gone."""
        if claim.granted:
            self._free += claim.size
            self._held[claim.owner] -= claim.size
            if not self._held[claim.owner]:
                del self._held[claim.owner]
        else:
            self._waiting[claim.owner].remove(claim)
            if not self._waiting[claim.owner]:
                del self._waiting[claim.owner]
        self._grant_what_may_be()

    def _grant_what_may_be(self, asked_now: Claim | None = None) -> None:
        """In turn. Who has his share is passed over; for who only needs more than there is, all others wait."""
        while (first := next(filter(self._may_have, self._firsts()), None)) and first.size <= self._free:
            self._free -= first.size
            self._held[first.owner] += first.size
            first.granted = True
            waiting = self._waiting.pop(first.owner)
            waiting.popleft()
            if waiting:
                self._waiting[first.owner] = waiting
            if first is not asked_now:
                first.wake()

    def _firsts(self) -> list[Claim]:
        return [claims[0] for claims in self._waiting.values()]

    def _may_have(self, claim: Claim) -> bool:
        held = self._held[claim.owner]
        return not held or self._free - claim.size >= self._half or held + claim.size <= self._share
