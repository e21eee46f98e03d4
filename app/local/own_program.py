"""One of our own programs as a child process: like a server, it starts, gets ready and stops."""

import signal
import urllib.error
import urllib.request

from app.local.servers.common import LOOPBACK, wait_until_ready
from app.local.servers.process import ChildProcess


class Program:
    """A process that reports its state at /ready of its port; without a port a process is ready when it runs."""

    def __init__(self, process: ChildProcess, port: int | None, stop_within: float) -> None:
        """`port`: where /ready is served on the loopback address, None: nowhere; `stop_within`: seconds that the
        program gets to finish its work after SIGTERM.
        """
        self.process, self.port, self._stop_within = process, port, stop_within

    def start(self) -> None:
        """Start the program unless it runs. Raises PermanentError when it cannot be executed."""
        self.process.start()

    def ready(self) -> bool:
        """Whether the program runs, and says that it is ready; takes up to 2 s."""
        if self.port is None:
            return self.process.alive()
        return self.process.listens(self.port) and http_ok(f"http://{LOOPBACK}:{self.port}/ready")

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return once ready. Raises TransientError after `timeout` seconds or when the program died."""
        wait_until_ready(self.process, self.ready, timeout)

    def stop(self, deadline: float | None = None) -> bool:
        """Send SIGTERM, and SIGKILL when the program does not end within `deadline` seconds (None: `stop_within`).
        True if it ended by itself.
        """
        return self.process.stop((signal.SIGTERM, deadline or self._stop_within))


def http_ok(url: str, timeout: float = 2.0) -> bool:
    """Whether a GET of a local address answers 200 within `timeout` seconds. Never raises for an answer
    that is none.
    """
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310 - always http://127.0.0.1
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
