"""init.sql to the database."""

from pathlib import Path

import asyncpg

from app.adapters.sqlstate import DATABASE_ERRORS, Failure, advice, classify, words
from app.errors import PermanentError, TransientError

CONNECT_TIMEOUT = 10.0  # seconds
APPLY_TIMEOUT = 600.0  # seconds; turning a large table into a hypertable moves every row


async def apply_schema(dsn: str, path: Path) -> None:
    """Run the SQL file at `path`, which brings its own BEGIN and COMMIT, in one round trip: all of it, or nothing.

    Raises TransientError when the database is away, PermanentError when it refuses, both with its words.
    """
    sql = path.read_text(encoding="utf-8")
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT)
        try:
            await connection.execute(sql, timeout=APPLY_TIMEOUT)
        finally:
            connection.terminate()
    except DATABASE_ERRORS as error:
        message = f"{path.name}: {words(error)}"
        if classify(error) is Failure.TRANSIENT:
            raise TransientError(message) from error
        hint = advice(error)
        raise PermanentError(f"{message}: {hint}" if hint else message) from error
