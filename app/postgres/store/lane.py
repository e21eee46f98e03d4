"""A place for one transaction at a time: a connection that is made when needed and thrown away when in doubt."""

import asyncio
import contextlib
from collections.abc import Iterator

from app.ports import Lease
from app.postgres.connect import connect
from app.postgres.sqlstate import DATABASE_ERRORS
from app.postgres.store.session import WriteSession
from app.settings import Settings

GRACE = 1.0  # seconds beyond the server's own statement timeout, before the connection is cut
CLOSE_TIMEOUT = 2.0  # seconds for a farewell


class Lane:
    """Holds a session, or none."""

    def __init__(self, settings: Settings, lease: Lease, name: str = "store") -> None:
        """No transaction begins without the `lease`; `name` tells its connection apart in pg_stat_activity."""
        self._settings, self._lease, self._name = settings, lease, f"iot-stream {name}"
        self.session: WriteSession | None = None

    async def open(self) -> WriteSession:
        """Connect and prepare. Raises DATABASE_ERRORS. May be cancelled."""
        connection = await connect(self._settings, self._name)
        session = WriteSession(connection, keeps_state=self._settings.database_statement_cache, lease=self._lease)
        try:
            await session.prepare()
        except BaseException:
            connection.terminate()
            raise
        self.session = session
        return session

    @contextlib.contextmanager
    def deadline(self) -> Iterator[None]:
        """Cut the connection when the block takes longer than database_timeout.

        Not a cancellation: a transaction that is cancelled still talks to the server, which may be gone.
        """
        timer = asyncio.get_running_loop().call_later(self._settings.database_timeout + GRACE, self.drop)
        try:
            yield
        finally:
            timer.cancel()

    def drop(self) -> None:
        """Cut the connection at once: whatever runs on it fails, and the server rolls it back."""
        if self.session is not None:
            self.session.connection.terminate()
            self.session = None

    async def close(self) -> None:
        """Say farewell to the server; cut the connection if it does not answer."""
        if self.session is not None:
            with contextlib.suppress(*DATABASE_ERRORS):
                await self.session.connection.close(timeout=CLOSE_TIMEOUT)
            self.drop()
