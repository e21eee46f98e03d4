"""A real Redis on the loopback address, with a password, whose data survives a restart."""

import signal
from pathlib import Path

from app.local.servers.common import LOOPBACK, exchange, free_port, secret_file, wait_until_ready, write_private
from app.local.servers.process import ChildProcess
from app.local.servers.tools import find, require

# appendfsync everysec: a kill -9 of Redis loses nothing that it had written to the system, a crash of the machine the
# last second. No snapshots beside that: they would write all of it again.
CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir "{directory}"
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
"""


class Redis:
    """One server with its data and its password in `data_dir`."""

    host = LOOPBACK
    commands = ("redis-server",)  # the programs of this machine that the start wants

    def __init__(self, data_dir: Path, port: int = 0, log: Path | None = None) -> None:
        """`port` 0 takes a free one, and keeps it for the life of this object."""
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self.process = ChildProcess("redis", [], log or self.data_dir / "redis.log")

    @property
    def password(self) -> str:
        """The password of the default user, made when first asked for (mode 0600)."""
        return secret_file(self.data_dir / "password")

    @property
    def url(self) -> str:
        """redis://:password@host:port/0."""
        return f"redis://:{self.password}@{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self.process.pid

    def start(self) -> None:
        """Start it. Raises PermanentError when there is no Redis."""
        if self.process.alive():
            return
        require(*self.commands)
        data = self.data_dir / "data"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.data_dir / "redis.conf"
        write_private(path, CONFIGURATION.format(host=LOOPBACK, port=self.port, password=self.password, directory=data))
        self.process.command = [find("redis-server") or "redis-server", str(path)]
        self.process.start()

    def ready(self) -> bool:
        """Whether it has read its data and answers."""
        if not self.process.listens(self.port):
            return False
        login = f"AUTH {self.password}\r\nPING\r\n".encode()
        return exchange(self.port, login, 12) == b"+OK\r\n+PONG\r\n"

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Return once it takes commands. Raises TransientError after `timeout` seconds or when it died."""
        wait_until_ready(self.process, self.ready, timeout)

    def stop(self, deadline: float = 20.0) -> bool:
        """Shut down cleanly; SIGKILL after `deadline` seconds. True if it was clean."""
        return self.process.stop((signal.SIGTERM, deadline))

    def kill(self) -> None:
        """End the server by SIGKILL."""
        self.process.kill()
