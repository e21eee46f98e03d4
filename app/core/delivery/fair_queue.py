"""Whose turn it is: in, items by lane (a user, a device); out, the next item, lane after lane, each in its order."""

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """A queue of lanes: however long one lane is, the next item of another waits for one item of each lane at most."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[T]] = {}
        self._ring: deque[str] = deque()  # lanes that have an item and are not paused, the next lane first
        self._paused: set[str] = set()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def lanes(self) -> int:
        """How many lanes have an item, paused or not."""
        return len(self._lanes)

    def waiting(self, lane: str) -> int:
        """How many items a lane has, paused or not."""
        return len(self._lanes.get(lane, ()))

    @property
    def idle(self) -> bool:
        """Whether the queue has nothing to take."""
        return not self._ring

    def put(self, lane: str, item: T) -> None:
        """Put an item at the end of its lane."""
        self.back(lane, [item], end=True)

    def back(self, lane: str, items: Sequence[T], *, end: bool = False) -> None:
        """Put items that were taken back to the front of their lane, in their order, or with `end` to its end."""
        if not items:
            return
        queue = self._lanes.setdefault(lane, deque())
        if not queue and lane not in self._paused:
            self._ring.append(lane)
        if end:
            queue.extend(items)
        else:
            queue.extendleft(reversed(items))
        self._count += len(items)

    def take(self) -> tuple[str, T] | None:
        """Take the next item; returns its lane and the item, or None when each lane is empty or paused."""
        if not self._ring:
            return None
        lane = self._ring.popleft()
        queue = self._lanes[lane]
        item = queue.popleft()
        self._count -= 1
        if queue:
            self._ring.append(lane)
        else:
            del self._lanes[lane]
        return lane, item

    def take_all(self, lane: str) -> list[T]:
        """Take all items of a lane, in their order, paused or not."""
        items = list(self._lanes.pop(lane, ()))
        if items and lane not in self._paused:
            self._ring.remove(lane)
        self._count -= len(items)
        return items

    def pause(self, lane: str) -> None:
        """Take nothing of a lane until `resume`."""
        if lane in self._paused:
            return
        self._paused.add(lane)
        if self._lanes.get(lane):
            self._ring.remove(lane)

    def resume(self, lane: str) -> None:
        """Take from a paused lane again; the lane's turn comes last."""
        if lane in self._paused:
            self._paused.discard(lane)
            if self._lanes.get(lane):
                self._ring.append(lane)
