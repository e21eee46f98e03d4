"""Asks the database whether it is there, on a connection that no write shares."""

import asyncio

from app.adapters.database import Connection, connect
from app.adapters.sqlstate import DATABASE_ERRORS
from app.settings import Settings

TIMEOUT = 2.0  # seconds; a readiness probe gives up soon after


class Probe:
    """One connection, kept while it works."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Connection | None = None
        self._one_at_a_time = asyncio.Lock()

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
        """Give the connection back."""
        async with self._one_at_a_time:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
