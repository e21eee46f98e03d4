"""Passwords and their bcrypt hashes in; right or wrong out, in threads, and in turn: 60 ms of a core each.

A lane is an account, so that however much is tried on one account, another waits for one check of each lane at most.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import bcrypt
from msgspec import Struct

from app.core.delivery.fair_queue import FairQueue

THREADS = 2
LANE_MAX = 64  # checks of one lane that wait; any login beyond them is answered to try again
PASSWORD_MAX = 72  # bytes: bcrypt looks at no more, and no account has a longer one
NOBODY = "$2a$10$" + "." * 22 + "." * 31  # a hash that no password has: an unknown name takes as long as a wrong one


class _PasswordCheck(Struct):
    password: bytes
    hashed: bytes
    wanted: Callable[[], bool]
    done: "asyncio.Future[bool | None]"


def matches(password: bytes, hashed: bytes) -> bool:
    """Whether it is the password of this bcrypt hash; a hash that is none has no password. Blocks for some 60 ms."""
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:
        return False


class PasswordChecks:
    """The checks of one process."""

    def __init__(self, check: Callable[[bytes, bytes], bool] = matches, threads: int = THREADS) -> None:
        self._check, self._threads = check, threads
        self._queue: FairQueue[_PasswordCheck] = FairQueue()
        self._waiting: Counter[str] = Counter()
        self._running: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="password")

    async def check(self, lane: str, password: str, hashed: str, wanted: Callable[[], bool]) -> bool | None:
        """Whether `password` is that of the hash; None: it was not looked at.

        That is when too much of the lane waits already, or it is not `wanted` any more when its turn comes.
        """
        given = password.encode("utf-8", "surrogatepass")
        if len(given) > PASSWORD_MAX or b"\0" in given:
            given, hashed = b"", NOBODY
        if self._waiting[lane] >= LANE_MAX:
            return None
        done: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        self._waiting[lane] += 1
        self._queue.put(lane, _PasswordCheck(given, hashed.encode(), wanted, done))
        self._begin()
        return await done

    def close(self) -> None:
        """Begin no more checks; those that wait are never done."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        while len(self._running) < self._threads and (taken := self._queue.take()):
            lane, one = taken
            self._waiting[lane] -= 1
            if not self._waiting[lane]:
                del self._waiting[lane]
            if one.done.cancelled():
                continue
            if not one.wanted():
                one.done.set_result(None)
                continue
            task = asyncio.create_task(self._run(one))
            self._running.add(task)
            task.add_done_callback(self._ended)

    async def _run(self, one: _PasswordCheck) -> None:
        right = await asyncio.get_running_loop().run_in_executor(self._pool, self._check, one.password, one.hashed)
        if not one.done.done():
            one.done.set_result(right)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._begin()
