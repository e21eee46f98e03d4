"""Look-ups of accounts -> one question a moment: names or tokens in, rows out, over one connection.

While a question is under way the next questions gather: a fleet that comes back, or somebody who tries tokens, costs
the database a few questions a second. While the database is away nobody waits: after a failure the database is
asked again a moment later, by the next login.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from app.errors import TransientError
from app.ports import AccountRow
from app.postgres.accounts.statements import by_names, by_tokens
from app.postgres.connect import CLOSE_TIMEOUT, Connection, connect
from app.postgres.sqlstate import DATABASE_ERRORS, advice, unreachable, words
from app.runtime.retry import delay, log_level
from app.settings import Settings

log = structlog.get_logger()

AT_ONCE = 1_000  # keys of one question
WAITING_MAX = 20_000  # keys; any login beyond them is answered `unavailable`
ANSWER_SECONDS = 5.0  # for a connection and an answer
AWAY = "the database of accounts does not answer"

K = TypeVar("K", str, bytes)
Question = Callable[[Connection, Sequence[K]], Awaitable[dict[K, AccountRow]]]


class _Waiting(Generic[K]):
    """The keys that are to be asked of one table."""

    def __init__(self, question: Question[K]) -> None:
        self.question: Question[K] = question
        self.futures: dict[K, asyncio.Future[AccountRow | None]] = {}

    def take(self) -> dict[K, "asyncio.Future[AccountRow | None]"]:
        """Take the keys that are asked now."""
        return {key: self.futures.pop(key) for key in list(self.futures)[:AT_ONCE]}


class AccountLookup:
    """app.ports.AccountRows; used in one event loop."""

    def __init__(self, settings: Settings, name: str = "gateway") -> None:
        """`name`: under this name the server knows the connection. Nothing is connected before the first look-up."""
        self._settings, self._name = settings, f"iot-stream {name}"
        self._connection: Connection | None = None
        self._names, self._tokens = _Waiting(by_names), _Waiting(by_tokens)
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._again = 0.0  # when the database may be asked again (monotonic)
        self.answers = False

    async def named(self, username: str) -> AccountRow | None:
        """Look up an account, as the port says; within some ANSWER_SECONDS for each AT_ONCE keys that wait
        before this key.
        """
        return await self._ask(self._names, username)

    async def of_token(self, digest: bytes) -> AccountRow | None:
        """Look up the account of a token, as the port says."""
        return await self._ask(self._tokens, digest)

    async def close(self) -> None:
        """Close the connection, as the port says; look-ups under way are cancelled."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        for future in (*self._names.futures.values(), *self._tokens.futures.values()):
            future.cancel()
        if self._connection is not None and not self._connection.is_closed():
            try:
                await self._connection.close(timeout=CLOSE_TIMEOUT)
            except DATABASE_ERRORS:
                self._connection.terminate()

    async def _ask(self, waiting: _Waiting[K], key: K) -> AccountRow | None:
        future = waiting.futures.get(key)
        if future is None:
            if time.monotonic() < self._again or len(waiting.futures) >= WAITING_MAX:
                raise TransientError(AWAY)
            future = waiting.futures[key] = asyncio.get_running_loop().create_future()
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._answer_all(), name="accounts")
        return await asyncio.shield(future)

    async def _answer_all(self) -> None:
        while self._names.futures or self._tokens.futures:
            await self._answer(self._names)
            await self._answer(self._tokens)

    async def _answer(self, waiting: _Waiting[K]) -> None:
        taken = waiting.take()
        if not taken:
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await self._question(waiting.question, list(taken))
        except DATABASE_ERRORS as error:
            self._failed(error, list(taken.values()))
            return
        except asyncio.CancelledError:
            for future in taken.values():
                future.cancel()
            raise
        self._failures, self.answers = 0, True
        for key, future in taken.items():
            if not future.done():
                future.set_result(found.get(key))

    async def _question(self, question: Question[K], keys: Sequence[K]) -> dict[K, AccountRow]:
        """The answer, over the connection that is there; a connection that has died meanwhile is no outage."""
        if self._connection is not None and not self._connection.is_closed():
            try:
                return await question(self._connection, keys)
            except DATABASE_ERRORS as error:
                if not unreachable(error):
                    raise
                self._connection.terminate()
        self._connection = await connect(self._settings, self._name)
        return await question(self._connection, keys)

    def _failed(self, error: BaseException, futures: Sequence["asyncio.Future[AccountRow | None]"]) -> None:
        """Answer the keys that were asked, and AT_ONCE of each table that came meanwhile; ask again after a while."""
        wait = delay(self._failures, first=0.2, longest=5.0)
        self._failures += 1
        self._again, self.answers = time.monotonic() + wait, False
        said = {"error": words(error), "cure": advice(error), "wait_seconds": round(wait, 2)}
        log.log(log_level(self._failures), "accounts_unavailable", **said)
        waiting = [*futures, *self._names.take().values(), *self._tokens.take().values()]
        for future in waiting:
            if not future.done():
                future.set_exception(TransientError(AWAY))
                future.exception()
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
