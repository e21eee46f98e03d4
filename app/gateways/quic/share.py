"""What each connection may have of the memory and of the connections there are, and who waits for it."""

from collections import Counter
from collections.abc import Callable

from app.ports import Account

# Bytes that senders may be ahead of us, all together; of one, what is enough for 50 MB/s at a round trip of 10 ms.
AHEAD_BYTES = 32 << 20
AHEAD_MOST, AHEAD_LEAST = 512 << 10, 64 << 10


class Share:
    """The connections of one gateway, and how many of each account there are."""

    def __init__(self, connections: int, of_account: int) -> None:
        """`connections` there may be at most, `of_account` of them of one account."""
        self._most, self._of_account = connections, of_account
        self._accounts: Counter[str] = Counter()
        self.open = 0

    @property
    def window(self) -> int:
        """Bytes that one connection may send ahead."""
        return max(AHEAD_LEAST, min(AHEAD_MOST, AHEAD_BYTES // max(1, self.open)))

    @property
    def full(self) -> bool:
        """Whether there may be no other connection."""
        return self.open >= self._most

    def joined(self, account: str) -> bool:
        """Count one more of this account's; False: it has as many as it may."""
        if self._accounts[account] >= self._of_account:
            return False
        self._accounts[account] += 1
        return True

    def left(self, account: str) -> None:
        """Count one less of this account's."""
        self._accounts[account] -= 1
        if not self._accounts[account]:
            del self._accounts[account]


class Crowd:
    """Connections of accounts that have their share of the intake's room; each goes on once there is room again."""

    def __init__(self, crowded: Callable[[Account], bool]) -> None:
        """`crowded`: whether an account has its share, and others need the rest."""
        self._crowded = crowded
        self._waiting: dict[str, dict[Callable[[], None], None]] = {}  # in the order in which they came

    def wait(self, account: Account, go_on: Callable[[], None]) -> None:
        """Call `go_on` once the account may have more; whoever waits already waits once."""
        self._waiting.setdefault(account.user_id, {})[go_on] = None

    def forget(self, account: Account, go_on: Callable[[], None]) -> None:
        """Let `go_on` wait no more."""
        self._waiting.get(account.user_id, {}).pop(go_on, None)

    def wake(self, account: Account) -> None:
        """Some of the account's was acknowledged: let as many go on as there is room for, the first first."""
        waiting = self._waiting.get(account.user_id)
        for _ in range(len(waiting or ())):
            if not waiting or self._crowded(account):
                break
            first = next(iter(waiting))
            del waiting[first]
            first()
        if not waiting:
            self._waiting.pop(account.user_id, None)
