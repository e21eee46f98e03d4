"""init.sql applied to a database."""

import re
import ssl
from pathlib import Path

from app.errors import PermanentError
from app.postgres.connect import owner_session

_INSTALLED = Path(__file__).with_name("init.sql")  # setup.py puts it there
INIT_SQL = _INSTALLED if _INSTALLED.exists() else Path(__file__).parents[3] / "init.sql"


async def apply(
    dsn: str, file: Path = INIT_SQL, password: str | None = None, encrypted: ssl.SSLContext | None = None
) -> None:
    """Execute a file of SQL in one round trip; init.sql brings its own BEGIN and COMMIT: all statements, or none.

    Raises TransientError when the database is away, PermanentError when it refuses or the file cannot be read.
    """
    sql = _read(file)
    async with owner_session(dsn, file.name, password, encrypted) as connection:
        await connection.execute(sql)


async def make_database(superuser_dsn: str, database: str) -> None:
    """CREATE DATABASE unless it exists. Raises TransientError or PermanentError."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", database):
        raise PermanentError(f"cannot make database {database!r}: a name is small letters, digits and _")
    async with owner_session(superuser_dsn, f"cannot make database {database}") as connection:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            await connection.execute(f"CREATE DATABASE {database}")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PermanentError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PermanentError(f"{file}: byte {error.start} is not UTF-8") from error
