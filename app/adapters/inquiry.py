"""A connection for one question of an operator; the database's errors come out as this project's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.adapters.database import Connection, connect
from app.adapters.sqlstate import DATABASE_ERRORS, Failure, advice, classify, words
from app.errors import PermanentError, TransientError
from app.settings import Settings


@asynccontextmanager
async def inquiry(settings: Settings, name: str) -> AsyncIterator[Connection]:
    """Connect as `iot-stream <name>`. Raises TransientError when nobody answers, PermanentError when it is refused."""
    try:
        connection = await connect(settings, f"iot-stream {name}")
        try:
            yield connection
        finally:
            await connection.close(timeout=5)
    except DATABASE_ERRORS as error:
        cure = advice(error) or "is IOT_DATABASE_URL right, and the database up?"
        kind = TransientError if classify(error) is Failure.TRANSIENT else PermanentError
        raise kind(f"the database: {words(error)}; {cure}") from error
