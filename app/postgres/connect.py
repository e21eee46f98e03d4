"""The one way to connect to PostgreSQL, for every part of the product."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg

from app.postgres.sqlstate import translated
from app.runtime import tls
from app.settings import Settings

Connection: TypeAlias = "asyncpg.Connection[Any]"  # generic in its stubs alone

CONNECT_TIMEOUT = 10.0  # seconds; a host that drops packets would hold a try for minutes otherwise
CLOSE_TIMEOUT = 5.0  # seconds for a farewell
AWAY = "is IOT_DATABASE_URL right, and the database up?"  # what to do where nobody answers


async def connect(settings: Settings, name: str, *, planned_anew: bool = False) -> Connection:
    """Open a connection that calls itself `name`. Raises sqlstate.DATABASE_ERRORS, of which ClientConfigurationError
    says that a file of the settings cannot be used; none of them shows the password.

    `planned_anew`: each statement is planned when it is sent. A plan from the time when a table was small reads the
    whole table for every key: 2,000 keys took 5 s where 20 ms is enough. Without a statement cache the server is taken
    to be behind PgBouncer, which passes no session settings on.
    """
    milliseconds = str(int(settings.database_timeout * 1000))
    session = {
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,  # a worker that lost power keeps no locks
        "jit": "off",  # compiling costs more than any statement here takes
    }
    if planned_anew:
        session["plan_cache_mode"] = "force_custom_plan"
    cached = settings.database_statement_cache
    try:
        password, encrypted = settings.database_password, database_context(settings)
    except ValueError as error:  # the files were right when the program started
        raise asyncpg.ClientConfigurationError(str(error)) from error
    return await opened(
        settings.database_url.get_secret_value(),
        password=password,
        ssl=encrypted,
        statement_cache_size=100 if cached else 0,
        server_settings={"application_name": name, **(session if cached else {})},
    )


async def opened(dsn: str, **options: Any) -> Connection:
    """asyncpg.connect, within CONNECT_TIMEOUT. Raises DATABASE_ERRORS alone: a ValueError becomes a
    ClientConfigurationError, which quotes nothing of the wrong value.
    """
    try:
        connection: Connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT, **options)
    except (asyncpg.InterfaceError, OSError):  # TLS has errors that are ValueErrors too
        raise
    except ValueError:
        # The URL itself was checked when the settings were read (app/runtime/database_url.py).
        what = "a variable of libpq (PGPORT and the like), or the file its PGSERVICE names, is wrong"
        raise asyncpg.ClientConfigurationError(what) from None
    return connection


def database_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS settings as a context; None: asyncpg goes by the URL's sslmode."""
    if not settings.database_tls:
        return None
    return tls.context(settings.database_ca_file, settings.database_certificate_file, settings.database_key_file)


@asynccontextmanager
async def operator_session(settings: Settings, name: str) -> AsyncIterator[Connection]:
    """Connect as `iot-stream <name>`. Raises TransientError when nobody answers, PermanentError after a refusal."""
    with translated("the database", AWAY):
        async with _closed_at_the_end(await connect(settings, f"iot-stream {name}")) as connection:
            yield connection


@asynccontextmanager
async def owner_session(
    dsn: str, what: str, password: str | None = None, encrypted: ssl.SSLContext | None = None
) -> AsyncIterator[Connection]:
    """Connect with no timeout of a statement, to make or change the schema. Raises as operator_session does."""
    with translated(what, AWAY):
        async with _closed_at_the_end(await opened(dsn, password=password, ssl=encrypted)) as connection:
            yield connection


@asynccontextmanager
async def _closed_at_the_end(connection: Connection) -> AsyncIterator[Connection]:
    try:
        yield connection
    finally:
        await connection.close(timeout=CLOSE_TIMEOUT)
