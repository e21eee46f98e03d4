"""How many messages a second may decide by themselves that they are traced; `now` is an argument.

A sender may mark every message as sampled, and the spans of a message cost several times what the message costs. So the
number of marks honoured a second is bounded, and one account has at most half of them: the rest is left to others.
"""


class TraceBudget:
    """The budget of one program."""

    def __init__(self, per_second: int) -> None:
        """`per_second`: 0 honours none."""
        self._per_second, self._each = per_second, (per_second + 1) // 2
        self._second, self._spent = 0, 0
        self._accounts: dict[bytes, int] = {}  # no more than were honoured in this second

    def spend(self, account: bytes, now: float) -> bool:
        """Whether one more message of `account` is honoured; `now` in seconds of a clock that only goes forward."""
        if (second := int(now)) != self._second:
            self._second, self._spent = second, 0
            self._accounts.clear()
        own = self._accounts.get(account, 0)
        if self._spent >= self._per_second or own >= self._each:
            return False
        self._spent += 1
        self._accounts[account] = own + 1
        return True
