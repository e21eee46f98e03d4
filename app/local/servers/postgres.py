"""A real PostgreSQL server on the loopback address, as durable as in production: fsync and synchronous_commit on."""

import shutil
import signal
import struct
from pathlib import Path

from app.errors import PermanentError
from app.local.servers.common import LOOPBACK, exchange, free_port, secret_file, wait_until_ready, write_private
from app.local.servers.postgres_home import Home, find_home
from app.local.servers.process import ChildProcess
from app.local.servers.unprivileged import run

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",  # fewer checkpoints under a bulk load
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "log_min_messages": "warning",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
LONGEST_SOCKET_PATH = 107  # bytes, less the NUL: sun_path of Linux


class Postgres:
    """One server with its data in `data_dir` (or where `data_dir/elsewhere` points, see postgres_home.py)."""

    def __init__(self, data_dir: Path, port: int = 0, log: Path | None = None) -> None:
        """`port` 0 takes a free port, and keeps it for the life of this object."""
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self.process = ChildProcess("postgres", [], log or self.data_dir / "postgres.log")

    @property
    def password(self) -> str:
        """The superuser's password, made when first asked for."""
        return secret_file(self.data_dir / "password")

    def dsn_of(self, database: str) -> str:
        """URL of a database of this server, as the superuser, password within."""
        return f"postgresql://postgres:{self.password}@{LOOPBACK}:{self.port}/{database}"

    @property
    def dsn(self) -> str:
        """URL of the superuser's own database."""
        return self.dsn_of("postgres")

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self.process.pid

    def start(self) -> None:
        """Start the server, making the cluster first when there is none. Raises PermanentError when that fails."""
        if self.process.alive():
            return
        self.data_dir.mkdir(parents=True, exist_ok=True)
        home = self._home()
        if not (home.data / "PG_VERSION").exists():
            self._make_cluster(home)
        socket = str(home.data) if len(f"{home.data}/.s.PGSQL.{self.port}") <= LONGEST_SOCKET_PATH else ""
        options = SETTINGS | {"port": str(self.port), "unix_socket_directories": socket}
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self.process.command = [f"{home.bin}/postgres", "-D", str(home.data), *flags]
        self.process.env, self.process.cwd, self.process.account = {"LC_ALL": "C"}, home.data, home.account
        self.process.start()

    def _home(self) -> Home:
        return find_home(self.data_dir)

    def _make_cluster(self, home: Home) -> None:
        """initdb beside the cluster's place, then rename: a cluster that was broken off is empty, and is removed."""
        new, word = home.data.with_name("new"), home.data.with_name("password")
        shutil.rmtree(new, ignore_errors=True)
        write_private(word, self.password, home.account)
        options = ["-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "scram-sha-256", f"--pwfile={word}"]
        done = run([f"{home.bin}/initdb", "-D", str(new), *options], home.account)
        word.unlink()
        if done.returncode:
            raise PermanentError(f"postgres: cannot make a cluster in {new}: {done.stderr.strip()[-600:]}")
        new.replace(home.data)

    def ready(self) -> bool:
        """Whether the server accepts connections."""
        # A start-up packet for a database; a server that starts up or shuts down answers with an error at once.
        parameters = b"user\0postgres\0database\0postgres\0\0"
        packet = struct.pack(">ii", len(parameters) + 8, 3 << 16) + parameters
        return self.process.listens(self.port) and exchange(self.port, packet, 1) == b"R"  # R: asks for the password

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return once the server accepts connections. Raises TransientError after `timeout` seconds or when it died."""
        wait_until_ready(self.process, self.ready, timeout)

    def stop(self, deadline: float = 20.0) -> bool:
        """Shut down fast (checkpoint, clients cut off); harder after `deadline` seconds, by SIGKILL 5 s later. True if
        the server ended by itself.
        """
        return self.process.stop((signal.SIGINT, deadline), (signal.SIGQUIT, 5.0))

    def kill(self) -> None:
        """End the postmaster and all its children by SIGKILL."""
        self.process.kill()
