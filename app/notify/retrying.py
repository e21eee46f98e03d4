"""Steps of a program that delivers alerts, tried until they succeed or the program is told to stop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from app.errors import IotStreamError
from app.notify import metrics
from app.postgres import sqlstate
from app.postgres.connect import Connection, connect
from app.runtime.retry import delay
from app.settings import Settings

log = structlog.get_logger()
T = TypeVar("T")

DATABASE = "database"  # the step whose errors may be those of the data


class StoppedError(IotStreamError):
    """Told to stop while waiting out an outage."""


class RetryUntilStopped:
    """Of one program, whose `stop` ends all waiting."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    @property
    def stopped(self) -> bool:
        """Whether to end."""
        return self._stop.is_set()

    async def on(self, step: str, call: Callable[[], Awaitable[T]], errors: tuple[type[BaseException], ...]) -> T:
        """Call until it succeeds. Raises the error of bad data, and StoppedError when told to stop."""
        attempt = 0
        while True:
            try:
                return await call()
            except errors as error:
                if step == DATABASE and sqlstate.classify(error) is sqlstate.Failure.DATA:
                    raise
                attempt += 1
                level = log.warning if attempt < 5 or attempt % 10 == 0 else log.debug
                level("notifier_retry", step=step, attempt=attempt, error=sqlstate.words(error))
            await self.pause(step, attempt)

    async def pause(self, step: str, attempt: int) -> None:
        """Wait before the next attempt. Raises StoppedError when told to stop."""
        metrics.FAILURES.labels(step).inc()
        await self.rest(step, delay(attempt))

    async def rest(self, step: str, seconds: float) -> None:
        """Wait. Raises StoppedError when told to stop."""
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return
        raise StoppedError(step)


class RetryingDatabase:
    """Connects when asked something, and again after a failure; asks one thing at a time."""

    def __init__(self, settings: Settings, name: str, retry: RetryUntilStopped) -> None:
        """`name` is what the server knows the connection by."""
        self._settings, self._name, self._retry = settings, name, retry
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None and not self._connection.is_closed()

    async def open(self) -> None:
        """Connect, however long it takes. Raises StoppedError when told to stop."""
        await self._retry.on(DATABASE, self._opened, sqlstate.DATABASE_ERRORS)

    async def ask(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        """Wait out an outage; raises sqlstate.DATABASE_ERRORS only when the data is at fault."""
        return await self._retry.on(DATABASE, lambda: self._on_connection(call), sqlstate.DATABASE_ERRORS)

    async def _on_connection(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._turn:
            try:
                return await call(await self._connected())
            except sqlstate.DATABASE_ERRORS as error:
                if sqlstate.classify(error) is not sqlstate.Failure.DATA:
                    self.close()
                raise

    async def _opened(self) -> None:
        async with self._turn:
            await self._connected()

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._settings, self._name, planned_anew=True)
        return self._connection

    def close(self) -> None:
        """Drop the connection; safe without one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
