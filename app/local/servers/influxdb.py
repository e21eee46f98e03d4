"""A real InfluxDB 1 on the loopback address, with an account and one database, whose data survives a restart."""

import base64
import signal
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from app.errors import TransientError
from app.local.servers.common import LOOPBACK, free_port, secret_file, wait_until_ready, write_private
from app.local.servers.process import ChildProcess
from app.local.servers.tools import find, require

ACCOUNT, DATABASE = "operator", "iot"
SECONDS = 10.0  # for an answer
# auth-enabled: until there is an account nobody may do anything but make the first one.
CONFIGURATION = """\
reporting-disabled = true
bind-address = "{host}:{inner}"
[meta]
  dir = "{directory}/meta"
[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"
  index-version = "tsi1"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "{host}:{port}"
  auth-enabled = true
  log-enabled = false
[logging]
  level = "warn"
"""


class InfluxDb:
    """One server with its data and its password in `data_dir`."""

    host, account, database = LOOPBACK, ACCOUNT, DATABASE
    commands = ("influxd",)  # the programs of this machine that the start wants

    def __init__(self, data_dir: Path, port: int = 0, log: Path | None = None) -> None:
        """`port` 0 takes a free one, and keeps it for the life of this object."""
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self.process = ChildProcess("influxdb", [], log or self.data_dir / "influxdb.log")

    @property
    def password(self) -> str:
        """The account's password, made when first asked for (mode 0600)."""
        return secret_file(self.data_dir / "password")

    @property
    def url(self) -> str:
        """http://host:port, without the account."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self.process.pid

    def start(self) -> None:
        """Start it. Raises PermanentError when there is no InfluxDB."""
        if self.process.alive():
            return
        require(*self.commands)
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.data_dir / "influxdb.conf"
        text = CONFIGURATION.format(host=LOOPBACK, port=self.port, inner=free_port(), directory=self.data_dir)
        write_private(path, text)
        self.process.command = [find("influxd") or "influxd", "run", "-config", str(path)]
        self.process.start()

    def ready(self) -> bool:
        """Whether it answers."""
        if not self.process.listens(self.port):
            return False
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=2.0) as answer:  # noqa: S310 - always http://127.0.0.1
                return bool(answer.status == 204)
        except OSError:
            return False

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return once it takes requests, and has the account and the database. Raises TransientError after `timeout`
        seconds or when it died or refuses them.
        """
        wait_until_ready(self.process, self.ready, timeout)
        # The first account of a server without any may be made by whoever asks, in the first moment of its life.
        self.query(f"CREATE USER \"{ACCOUNT}\" WITH PASSWORD '{self.password}' WITH ALL PRIVILEGES")
        self.query(f'CREATE DATABASE "{DATABASE}"')

    def query(self, statement: str) -> bytes:
        """The answer, JSON, to a statement of InfluxQL in its database, as its account. Raises TransientError."""
        word = base64.b64encode(f"{ACCOUNT}:{self.password}".encode()).decode()
        body = urllib.parse.urlencode({"q": statement, "db": DATABASE}).encode()
        request = urllib.request.Request(f"{self.url}/query", body, {"Authorization": f"Basic {word}"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 - always http://127.0.0.1
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise TransientError(f"influxdb: {error.code}: {error.read(500).decode(errors='replace')}") from None
        except OSError as error:
            raise TransientError(f"influxdb: {error}") from error

    def stop(self, deadline: float = 20.0) -> bool:
        """Shut down cleanly; SIGKILL after `deadline` seconds. True if it was clean."""
        return self.process.stop((signal.SIGTERM, deadline))

    def kill(self) -> None:
        """End the server by SIGKILL."""
        self.process.kill()
