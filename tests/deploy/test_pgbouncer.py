"""The pooler as configured: the worker's account stores through it, in transaction mode, with the rights it has."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.core.batch.effects import WriteResult
from app.local.servers.common import free_port, wait_until_ready
from app.local.servers.postgres import Postgres
from app.local.servers.process import ChildProcess
from app.local.servers.unprivileged import unprivileged
from app.postgres.connect import connect
from app.postgres.store.store import TimescaleStore
from app.settings import Settings
from tests.deploy.accounts import apply
from tools.documents import ROOT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("pgbouncer") is None or shutil.which("psql") is None,
        reason="PgBouncer or psql is not installed: apt-get install pgbouncer postgresql-client",
    ),
]


@contextmanager
def pgbouncer(directory: Path, server: Postgres, database: str, secrets: Path) -> Iterator[int]:
    """PgBouncer on a port of its own; but for addresses and paths its configuration is the deployed one."""
    port = free_port()
    passwords = {name: (secrets / f"{name}_db_password").read_text().strip() for name in ("worker", "notifier")}
    users = [f'"iot_{name}" "{password}"\n' for name, password in passwords.items()]
    (directory / "users").write_text("".join(users))
    text = (ROOT / "deploy" / "pgbouncer" / "pgbouncer.ini").read_text()
    for present, there in {
        "host=timescaledb port=5432 dbname=iot": f"host=127.0.0.1 port={server.port} dbname={Path(database).name}",
        "listen_addr = 0.0.0.0": "listen_addr = 127.0.0.1",
        "listen_port = 6432": f"listen_port = {port}",
        "/run/secrets/pgbouncer_userlist": str(directory / "users"),
    }.items():
        assert present in text
        text = text.replace(present, there)
    (directory / "ini").write_text(text)
    account = unprivileged()
    user = ["-u", account.name] if account else []
    os.chmod(directory / "users", 0o644)
    process = ChildProcess("pgbouncer", ["pgbouncer", *user, str(directory / "ini")], directory / "log")
    process.start()
    try:
        wait_until_ready(process, lambda: process.listens(port), 30.0)
        yield port
    finally:
        process.stop()


async def test_the_worker_stores_through_it(
    server: Postgres, accounts_database: str, secrets: Path, server_dir: Path
) -> None:
    secret = "a password of its own"
    (secrets / "worker_db_password").write_text(f"{secret}\n")
    assert apply(accounts_database, secrets).returncode == 0
    with pgbouncer(server_dir, server, accounts_database, secrets) as port:
        settings = Settings(
            _env_file=None,
            database_url=SecretStr(f"postgresql://iot_worker@127.0.0.1:{port}/iot"),
            database_password_file=secrets / "worker_db_password",
            database_statement_cache=False,
        )
        connection = await connect(settings, "test")
        assert await connection.fetchval("SHOW statement_timeout") == "1min", "the role's, as PgBouncer passes none on"
        await connection.close()
        store = TimescaleStore(settings, asyncio.Event())
        await store.start()
        try:
            for count in (5, 2 * settings.copy_min_rows):  # INSERT, and COPY by way of a temp table
                rows = [(datetime.now(UTC), "u", f"d{count}", n, 1.5, 80, "{}") for n in range(count)]
                assert await store.write(rows) == WriteResult(count, 0)
                assert await store.write(rows) == WriteResult(0, count)
        finally:
            await store.stop()
