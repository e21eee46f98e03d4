"""How many messages each user may still get: in, who got one when; out, whether one is left in a sliding interval."""

from collections import OrderedDict, deque


class Budget:
    """`most` messages in any `interval` seconds for each user; remembers only who got one in the last interval."""

    def __init__(self, most: int, interval: float) -> None:
        self._most, self._interval = most, interval
        self._spent: OrderedDict[str, deque[float]] = OrderedDict()  # who spent last comes last

    def __len__(self) -> int:
        return len(self._spent)

    def spent(self, user: str, now: float) -> int:
        """How many messages the user got in the interval before `now` (seconds)."""
        times = self._spent.get(user)
        if times is None:
            return 0
        while len(times) > 1 and times[0] <= now - self._interval:  # the last stays: it says when to forget the user
            times.popleft()
        return len(times) - (times[0] <= now - self._interval)

    def spend(self, user: str, now: float) -> bool:
        """Count one more message, if one is left; whether one was. `now`, in seconds, does not go back."""
        if self.spent(user, now) >= self._most:
            return False
        self._spent.setdefault(user, deque()).append(now)
        self._spent.move_to_end(user)
        while self._spent[oldest := next(iter(self._spent))][-1] <= now - self._interval:
            del self._spent[oldest]
        return True
