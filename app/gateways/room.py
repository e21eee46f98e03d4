"""How much is taken and not yet acknowledged: in all and of each user, and which readers wait until there is room."""

import asyncio
from collections import deque

READ_BYTES = 64 << 10  # what a reader that goes on is taken to bring in at once
NEXT_SECONDS = 0.02  # for those that went on to bring in what they have
USER_SHARE = 4  # while half of the room is taken, one user may have a quarter of it


class Room:
    """Bytes of memory within a bound; whoever takes beyond the bound has seen `full`."""

    def __init__(self, max_bytes: int) -> None:
        self._max, self._half = max_bytes, max_bytes // 2
        self.share = max_bytes // USER_SHARE
        self.taken = 0
        self._by_user: dict[bytes, int] = {}
        self._readers: deque[asyncio.Future[None]] = deque()
        self._over: list[asyncio.Future[None]] = []  # readers of users over their share
        self._next: asyncio.TimerHandle | None = None

    @property
    def full(self) -> bool:
        """Whether nothing more should be taken."""
        return self.taken >= self._max

    def over_share(self, user: bytes) -> bool:
        """Whether half is taken, and this user has more than his share."""
        return self.taken > self._half and self._by_user.get(user, 0) > self.share

    def take(self, user: bytes, size: int) -> None:
        """Note that `size` bytes of this user's are in memory."""
        self.taken += size
        self._by_user[user] = self._by_user.get(user, 0) + size

    def give(self, user: bytes, size: int) -> None:
        """Note that `size` bytes of this user's are not in memory any more. Raises KeyError for a user who has none."""
        self.taken -= size
        left = self._by_user[user] - size
        if left:
            self._by_user[user] = left
        else:
            del self._by_user[user]

    async def wait(self, user: bytes = b"") -> None:
        """Return at once unless full, then once there is room for one more read: of `user`, where one is named."""
        if self.full:
            reader = asyncio.get_running_loop().create_future()
            self._readers.append(reader)
            await reader
        while user and self.over_share(user):
            over = asyncio.get_running_loop().create_future()
            self._over.append(over)
            await over

    def wake(self) -> None:
        """Let as many readers go on as there is room for, the first first, once half of it is free.

        All at once would bring in many times what there is room for. Those that do may have nothing to read, or be
        gone, so that no ack follows: the next ones go on a moment later.
        """
        self._look_again()
        if self._readers and self.taken <= self._half:
            for _ in range(max(1, (self._max - self.taken) // READ_BYTES)):
                self._let_one_go_on()
            if self._readers and self._next is None:
                self._next = asyncio.get_running_loop().call_later(NEXT_SECONDS, self._wake_next)

    def close(self) -> None:
        """Let all go on: there is nothing to wait for."""
        if self._next:
            self._next.cancel()
        self._by_user.clear()
        self._look_again()
        while self._readers:
            self._let_one_go_on()

    def _wake_next(self) -> None:
        self._next = None
        self.wake()

    def _look_again(self) -> None:
        """Wake the readers whose user may be within his share now."""
        waiting, self._over = self._over, []
        for reader in waiting:
            if not reader.done():
                reader.set_result(None)

    def _let_one_go_on(self) -> None:
        while self._readers:
            reader = self._readers.popleft()
            if not reader.done():  # else the reader waits no more, and its turn goes to the next
                reader.set_result(None)
                return
