"""A PostgreSQL with pgcrypto, and passwords in files."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from app.local.servers import postgres_home
from app.local.servers.postgres import Postgres
from app.postgres.schema.init_sql import INIT_SQL
from app.postgres.schema.init_sql import apply as apply_schema
from tests import servers
from tests.deploy.accounts import NAMES


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A server that has pgcrypto, as TimescaleDB's image has: the system's, since the wheel's comes without."""
    system = [path for path in postgres_home._installed() if "site-packages" not in str(path)]
    with pytest.MonkeyPatch.context() as patch, servers.server_directory() as directory:
        patch.setattr(postgres_home, "_installed", lambda: system)
        if not system:
            pytest.skip("the system's PostgreSQL is not installed: apt-get install postgresql")
        server = Postgres(directory)
        server.start()
        try:
            server.wait_ready()
            yield server
        finally:
            server.stop()


@pytest.fixture
async def accounts_database(server: Postgres, unique: str) -> str:
    """URL of a database with init.sql applied, roles and all."""
    connection = await asyncpg.connect(server.dsn)
    try:
        if not await connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'pgcrypto'"):
            pytest.skip("the system's PostgreSQL has no pgcrypto: apt-get install postgresql-contrib")
        await connection.execute(f"CREATE DATABASE {unique}")
    finally:
        await connection.close()
    await apply_schema(server.dsn_of(unique), INIT_SQL)
    return server.dsn_of(unique)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_text(f"a password of {name}'s \\ own\n")
    return tmp_path
