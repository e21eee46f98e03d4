"""init.sql applied to a database."""

from pathlib import Path

import asyncpg

from app.errors import PermanentError, TransientError

INIT_SQL = Path(__file__).parents[2] / "init.sql"


async def apply(dsn: str, file: Path = INIT_SQL, password: str | None = None) -> None:
    """Execute a file of SQL. Raises TransientError when the database is away, PermanentError when it refuses."""
    try:
        sql = file.read_text()
    except OSError as error:
        raise PermanentError(f"cannot read {file}: {error.strerror}") from error
    try:
        connection = await asyncpg.connect(dsn, password=password, timeout=10)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()
    except asyncpg.PostgresError as error:
        raise PermanentError(f"{file.name}: the database says: {error}") from error
    except (OSError, TimeoutError) as error:
        raise TransientError(f"cannot reach the database: {error}") from error


async def make_database(superuser_dsn: str, database: str) -> None:
    """CREATE DATABASE unless it exists. Raises TransientError or PermanentError."""
    try:
        connection = await asyncpg.connect(superuser_dsn, timeout=10)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
                await connection.execute(f"CREATE DATABASE {database}")
        finally:
            await connection.close()
    except asyncpg.PostgresError as error:
        raise PermanentError(f"cannot make database {database}: {error}") from error
    except (OSError, TimeoutError) as error:
        raise TransientError(f"cannot reach the database: {error}") from error
