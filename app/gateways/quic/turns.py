"""Turns of the event loop, shared among accounts: so much work for each in every one, and the rest in those to come.

A connection may have hundreds of frames on hand, and an account hundreds of connections. To take all of that in one
turn would keep everybody else's packets waiting for seconds.
"""

import asyncio
from collections.abc import Callable

TURN = 500  # units of work of one account, some 4 ms; a frame that is more is taken whole, and the turns to come pay
FRAME = 8  # units of a frame, beside its bytes
BYTES = 32  # of a frame that are one unit: about a metric, 8 us


class Turns:
    """Of one gateway."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}  # units of this turn and, beyond TURN, of those to come, by account
        self._waiting: dict[str, dict[Callable[[], None], None]] = {}  # in the order in which they came
        self._next: asyncio.Handle | None = None

    def has(self, account: str) -> bool:
        """Whether it may have more of this turn."""
        return self._used.get(account, 0) < TURN

    def use(self, account: str, size: int) -> None:
        """A frame of so many bytes is taken, or answered."""
        self._used[account] = self._used.get(account, 0) + FRAME + size // BYTES
        self._soon()

    def wait(self, account: str, go_on: Callable[[], None]) -> None:
        """Call `go_on` in a turn to come; whoever waits already waits once. Only for who has used up this one."""
        self._waiting.setdefault(account, {})[go_on] = None

    def forget(self, account: str, go_on: Callable[[], None]) -> None:
        """It waits no more."""
        self._waiting.get(account, {}).pop(go_on, None)

    def _soon(self) -> None:
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """The next turn, behind the packets that have come meanwhile."""
        self._next = None
        self._used = {account: used - TURN for account, used in self._used.items() if used > TURN}
        if self._used:
            self._soon()
        for account, waiting in list(self._waiting.items()):
            while waiting and self.has(account):
                first = next(iter(waiting))
                del waiting[first]
                first()
            if not waiting:
                del self._waiting[account]
