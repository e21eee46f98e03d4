"""Asks whether the database answers, on a connection that no write shares."""

import asyncio
import random

from app.postgres.circuit_breaker import Breaker, BreakerState
from app.postgres.connect import Connection, connect
from app.postgres.sqlstate import DATABASE_ERRORS
from app.settings import Settings

TIMEOUT = 2.0  # seconds; a readiness probe gives up soon after


class Probe:
    """One connection, kept while the connection works.

    While the circuit breaker is open the probe asks on its own: a database that was away and answers again ends the
    wait. A database that answers all the time and refuses writes does not: there the breaker's time alone counts.
    """

    def __init__(self, settings: Settings, breaker: Breaker) -> None:
        self._settings, self._breaker = settings, breaker
        self._connection: Connection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the breaker, unless breaker_probe is 0."""
        if self._settings.breaker_probe and self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def answers(self) -> bool:
        """Whether `SELECT 1` is answered within 2 s."""
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(TIMEOUT):
                    if self._connection is None:
                        self._connection = await connect(self._settings, "iot-stream probe")
                    await self._connection.execute("SELECT 1")
                    return True
            except DATABASE_ERRORS:
                self._drop()
                return False

    async def close(self) -> None:
        """Stop watching, give the connection back."""
        if self._watching:
            self._watching.cancel()
            await asyncio.wait({self._watching})
            self._watching = None
        async with self._one_at_a_time:
            self._drop()

    async def _watch(self) -> None:
        was_away = False
        while True:
            await asyncio.sleep(self._settings.breaker_probe * random.uniform(0.5, 1.0))
            if self._breaker.state is not BreakerState.OPEN:
                was_away = False
            elif not await self.answers():
                was_away = True
            elif was_away or self._breaker.unreachable:
                was_away = False
                self._breaker.bring_forward()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
