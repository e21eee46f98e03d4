"""Steps of a program that delivers alerts, tried until they succeed or the program is interrupted."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import structlog

from app.errors import IotStreamError
from app.notify import metrics
from app.postgres import sqlstate
from app.postgres.connect import Connection, connect
from app.runtime.interrupt import set_within
from app.runtime.retry import delay, log_level, retry
from app.settings import Settings

log = structlog.get_logger()
T = TypeVar("T")

DATABASE = "database"


class StoppedError(IotStreamError):
    """The program stops while an outage is waited out."""


async def until_stopped(steps: Coroutine[Any, Any, None]) -> None:
    """Run `steps` until they end, by themselves or by StoppedError; any other exception is raised."""
    try:
        await steps
    except StoppedError:
        return


class RetryUntilStopped:
    """How the steps of one program are tried again, until its `stop` ends all waiting."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    @property
    def stopped(self) -> bool:
        """Whether the program is to end."""
        return self._stop.is_set()

    async def on(self, step: str, call: Callable[[], Awaitable[T]], again: Callable[[BaseException], bool]) -> T:
        """Return what `call` returns, calling it again after failures for which `again` is true, with a back-off of 0.1
        to 10 s. `step` names the call in the log and in iot_notifier_failures_total.

        Raises any other failure, and StoppedError when the program stops.
        """

        def failed(attempt: int, error: BaseException) -> None:
            words = sqlstate.words(error)
            log.log(log_level(attempt, first=4), "notifier_retry", step=step, attempt=attempt, error=words)
            metrics.FAILURES.labels(step).inc()

        wait, rest = (lambda state: delay(state.attempt_number)), partial(self.rest, step)
        return await retry(call, again, wait, failed, rest)

    async def rest(self, step: str, seconds: float) -> None:
        """Wait for so many seconds. Raises StoppedError with the name of the `step` as soon as the program stops."""
        if await set_within(self._stop, seconds):
            raise StoppedError(step)


class RetryingDatabase:
    """Connects at the first question, and again after a failure; asks one question at a time."""

    def __init__(self, settings: Settings, name: str, retry: RetryUntilStopped) -> None:
        """`name` is what the server knows the connection by (application_name)."""
        self._settings, self._name, self._retry = settings, name, retry
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """Whether a connection is open now; none is made to find out."""
        return self._connection is not None and not self._connection.is_closed()

    async def open(self) -> None:
        """Connect, however long it takes. Raises StoppedError when the program stops."""
        await self._retry.on(DATABASE, self._opened, _outage)

    async def ask(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        """Return what `call` returns, given the connection; after an outage `call` is called again, with a new
        connection.

        Raises sqlstate.DATABASE_ERRORS only when the data is at fault, and StoppedError when the program stops.
        """
        return await self._retry.on(DATABASE, lambda: self._on_connection(call), _outage)

    async def _on_connection(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._turn:
            try:
                return await call(await self._connected())
            except sqlstate.DATABASE_ERRORS as error:
                if _outage(error):
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
        """Drop the connection, with what is under way on it; safe when none is open. The next question makes one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _outage(error: BaseException) -> bool:
    """Whether this is a failure of the database, and not of the data."""
    return isinstance(error, sqlstate.DATABASE_ERRORS) and sqlstate.classify(error) is not sqlstate.Failure.DATA
