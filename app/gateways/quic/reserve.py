"""Memory for frames that are large and not yet whole: so many bytes for all connections, who asks first has them first.

Each has all of what its frame needs, or waits and may send nothing: so those who have it can end what they began, and a
thousand connections that begin large frames at once take no more than this.
"""

from collections import deque
from collections.abc import Callable


class Claim:
    """What one frame needs."""

    __slots__ = ("granted", "size", "wake")

    def __init__(self, size: int, wake: Callable[[], None]) -> None:
        """`size`: bytes; `wake` is called when they are granted later."""
        self.size, self.wake, self.granted = size, wake, False


class Reserve:
    """The memory of the large frames of a gateway."""

    def __init__(self, size: int) -> None:
        """`size`: bytes; at least that of the largest frame."""
        self._free = size
        self._waiting: deque[Claim] = deque()

    def claim(self, size: int, wake: Callable[[], None]) -> Claim:
        """Ask for `size` bytes; when they are not granted at once, `wake` is called as soon as they are."""
        made = Claim(size, wake)
        if not self._waiting and size <= self._free:
            self._grant(made)
        else:
            self._waiting.append(made)
        return made

    def give(self, claim: Claim) -> None:
        """Give a claim back, granted or not: the frame is whole, or gone. Raises ValueError for one that was given back
        while it waited.
        """
        if claim.granted:
            self._free += claim.size
        else:
            self._waiting.remove(claim)
        while self._waiting and self._waiting[0].size <= self._free:
            first = self._waiting.popleft()
            self._grant(first)
            first.wake()

    def _grant(self, claim: Claim) -> None:
        self._free -= claim.size
        claim.granted = True
