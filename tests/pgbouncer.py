"""A real PgBouncer in transaction mode before a PostgreSQL, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.local.servers.common import LOOPBACK, exchange, free_port, wait_until_ready, write_private
from app.local.servers.process import ChildProcess
from app.local.servers.tools import find
from app.local.servers.unprivileged import unprivileged
from tests.servers import server_directory

CONFIG = """[databases]
* = host={host} port={server} user={user} password={password}
[pgbouncer]
listen_addr = {listen}
listen_port = {port}
auth_type = any
pool_mode = transaction
default_pool_size = 2
server_reset_query =
server_login_retry = 1
query_wait_timeout = {patience}
unix_socket_dir =
"""
STARTUP = b"\0\0\0\x26\0\3\0\0user\0iot\0database\0pgbouncer\0\0\0"  # PgBouncer's own console, which asks no server


@contextmanager
def transaction_mode(dsn: str, patience: int = 30) -> Iterator[str]:
    """The same database's URL through a pooler with two connections, for which a client waits for `patience` seconds;
    skips the test where there is no PgBouncer.
    """
    program = find("pgbouncer")
    if program is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    parts, port = urlsplit(dsn), free_port()
    with server_directory() as directory:
        file, account = Path(directory) / "pgbouncer.ini", unprivileged()
        server = {"host": parts.hostname, "server": parts.port, "user": parts.username, "password": parts.password}
        write_private(file, CONFIG.format(**server, listen=LOOPBACK, port=port, patience=patience), account)
        process = ChildProcess("pgbouncer", [program, str(file)], directory / "log", account=account, cwd=directory)
        process.start()
        try:
            wait_until_ready(process, lambda: exchange(port, STARTUP, 1) != b"", 10)
            yield f"postgresql://iot@{LOOPBACK}:{port}{parts.path}"
        finally:
            process.stop()
