"""One connection to the database for a program that waits out its absence."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.adapters import sqlstate
from app.adapters.database import Connection, connect
from app.adapters.insistence import DATABASE, Insistence
from app.settings import Settings

T = TypeVar("T")


class PatientDatabase:
    """Connects when asked something, and again after a failure; asks one thing at a time."""

    def __init__(self, settings: Settings, name: str, insist: Insistence) -> None:
        """`name` is what the server knows the connection by."""
        self._settings, self._name, self._insist = settings, name, insist
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None and not self._connection.is_closed()

    async def open(self) -> None:
        """Connect, however long it takes. Raises StoppedError when told to stop."""
        await self._insist.on(DATABASE, self._opened, sqlstate.DATABASE_ERRORS)

    async def ask(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        """Wait out an outage; raises sqlstate.DATABASE_ERRORS only when the data is at fault."""
        return await self._insist.on(DATABASE, lambda: self._on_connection(call), sqlstate.DATABASE_ERRORS)

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
