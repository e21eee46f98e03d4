"""Who is online, counted: how many devices of each user of this worker, and what each user counts for among all."""

from collections import Counter

WEIGHT = 20  # devices; a user with more counts for no more among all, however many devices the user invents


class OnlineCount:
    """Counts who is online, over all partitions of one epoch."""

    __slots__ = ("_of", "total", "weight")

    def __init__(self) -> None:
        self._of: Counter[str] = Counter()
        self.total = 0  # devices
        self.weight = 0  # of all users together

    def comes(self, user_id: str) -> None:
        """One of the user's devices is online now."""
        self._of[user_id] += 1
        self.total += 1
        self.weight += self._of[user_id] <= WEIGHT

    def goes(self, user_id: str) -> None:
        """One of the user's devices is offline now."""
        self.weight -= self._of[user_id] <= WEIGHT
        self.total -= 1
        self._of[user_id] -= 1
        if not self._of[user_id]:
            del self._of[user_id]

    def of(self, user_id: str) -> int:
        """How many devices of the user are online."""
        return self._of.get(user_id, 0)

    @property
    def users(self) -> int:
        """How many users have a device that is online."""
        return len(self._of)
