"""Steps of a program that delivers alerts, tried until they succeed or the program is told to stop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from prometheus_client import Counter

from app.adapters import sqlstate
from app.errors import IotStreamError
from app.gateways.backoff import delay

log = structlog.get_logger()
T = TypeVar("T")

FAILURES = Counter("iot_notifier_failures", "Steps that failed and were tried again", ["step"])
DATABASE = "database"  # the step whose errors may be those of the data


class StoppedError(IotStreamError):
    """Told to stop while waiting out an outage."""


class Insistence:
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
        FAILURES.labels(step).inc()
        await self.rest(step, delay(attempt))

    async def rest(self, step: str, seconds: float) -> None:
        """Wait. Raises StoppedError when told to stop."""
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return
        raise StoppedError(step)
