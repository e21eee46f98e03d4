"""One child process: started in its own session with its output in a log file, adopted again after our death, stopped.

Its own session, because Ctrl-C reaches every process of ours at once and the stop must go in order.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from app.errors import PermanentError
from app.local.servers.unprivileged import SystemUser


class ChildProcess:
    """A command that runs beside us, or that we start. One object for the whole life, over restarts."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        account: SystemUser | None = None,
    ) -> None:
        """`env` is added to ours; `cwd` None: our directory; `account` is whom to run as when we are root, None: as
        ourselves; `log` is appended to.
        """
        self.name, self.command, self.log = name, list(command), log
        self.env, self.cwd, self.account = dict(env or {}), cwd, account
        self._child: subprocess.Popen[bytes] | None = None
        self._process: psutil.Process | None = None

    def start(self) -> None:
        """Start the process unless it runs. Raises PermanentError when the program cannot be executed at all."""
        if self.alive():
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            try:
                self._child = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=os.environ | self.env,
                    cwd=self.cwd,
                    user=self.account.uid if self.account else None,
                    group=self.account.gid if self.account else None,
                    extra_groups=[] if self.account else None,
                    start_new_session=True,
                )
            except OSError as error:
                raise PermanentError(f"{self.name}: cannot run {self.command[0]}: {error.strerror}") from error
        self._process = psutil.Process(self._child.pid)

    def adopt(self, pid: int, created: float) -> bool:
        """Take over a process that an earlier supervisor left; `created` is its start, seconds since 1970. False if
        that pid is gone or is another process by now.
        """
        try:
            process = psutil.Process(pid)
            if abs(process.create_time() - created) > 0.05:
                return False
        except psutil.NoSuchProcess:
            return False
        self._child, self._process = None, process
        return self.alive()

    def alive(self) -> bool:
        """Whether the process runs now; reaps it when it has ended."""
        if self._child is not None:
            return self._child.poll() is None
        if self._process is None:
            return False
        try:
            return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    @property
    def pid(self) -> int:
        """Process id of the last start; 0 before the first."""
        return self._process.pid if self._process else 0

    @property
    def created(self) -> float:
        """The time of the start, seconds since 1970: with the pid it names a process for ever. 0: never started, or
        gone.
        """
        try:
            return float(self._process.create_time()) if self._process else 0.0
        except psutil.NoSuchProcess:
            return 0.0

    def listens(self, port: int) -> bool:
        """Whether this process listens on that TCP port, and not another process that had the port before."""
        if not self.alive() or self._process is None:
            return False
        try:
            sockets = self._process.net_connections(kind="tcp")
        except psutil.Error:
            return False
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets)

    @property
    def exit_code(self) -> int | None:
        """Exit code of our own child, negative for a signal; None while the child runs or when it was adopted."""
        return self._child.returncode if self._child else None

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send the signal `number` to the process, or, with `group`, to all of its session; none when it is gone."""
        if self.alive():
            try:
                (os.killpg if group else os.kill)(self.pid, number)
            except ProcessLookupError:
                return

    def stop(self, *signals: tuple[int, float]) -> bool:
        """Send each (signal, seconds to wait) in turn until the process ends, then SIGKILL to all of its session.

        True if the process ended before SIGKILL.
        """
        for number, seconds in signals or ((signal.SIGTERM, 10.0),):
            self.signal(number)
            if self.wait(seconds):
                return True
        self.kill()
        return False

    def kill(self) -> None:
        """Send SIGKILL to the process and to all of its session, and wait for its end, for 10 s at most."""
        self.signal(signal.SIGKILL, group=True)
        self.wait(10.0)

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the process. False if it still runs after so many seconds; True if never started."""
        if self._process is None:
            return True
        if self._child is not None:
            try:
                self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                return False
            return True
        return not psutil.wait_procs([self._process], timeout=seconds)[1]

    def tail(self, lines: int = 8) -> str:
        """The last lines of its log, for an error message; empty when there is no log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
