"""What the three servers have in common: a ChildProcess, a port that answers, files with one secret each."""

import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from app.errors import TransientError
from app.local.servers.process import ChildProcess
from app.local.servers.unprivileged import SystemUser

LOOPBACK = "127.0.0.1"
# Below the ports that Linux gives to outgoing connections, any of which could take the port of a server that is down
# for a moment; a client that tries to reach the server may even connect to itself.
PORTS = range(20_000, 32_768)


def port_is_free(port: int, kind: int = socket.SOCK_STREAM) -> bool:
    """Whether a server of ours could listen on the port of the loopback address now; `kind` of socket: SOCK_DGRAM for
    UDP.
    """
    with socket.socket(type=kind) as probe:
        if kind == socket.SOCK_STREAM:  # with SO_REUSEADDR two servers may share a port of UDP
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(preferred: int = 0, kind: int = socket.SOCK_STREAM) -> int:
    """`preferred` if no server listens there, else a random port of PORTS; `kind` of socket: SOCK_DGRAM for UDP. Raises
    TransientError when all are taken.
    """
    if preferred and port_is_free(preferred, kind):
        return preferred
    for port in secrets.SystemRandom().sample(PORTS, len(PORTS)):
        if port_is_free(port, kind):
            return port
    raise TransientError(f"no port from {PORTS.start} to {PORTS.stop - 1} is free")


def exchange(port: int, request: bytes, size: int, timeout: float = 1.0) -> bytes:
    """Send bytes to a local port and read `size` bytes back; fewer when the server refuses, hangs up or stays silent
    for `timeout` seconds. Never raises.
    """
    answer = b""
    try:
        with socket.create_connection((LOOPBACK, port), timeout) as connection:
            connection.sendall(request)
            while len(answer) < size and (part := connection.recv(size - len(answer))):
                answer += part
    except OSError:
        return answer
    return answer


def wait_until_ready(process: ChildProcess, ready: Callable[[], bool], timeout: float) -> None:
    """Ask `ready` every 50 ms until it returns True. Raises TransientError with the end of the log if the process dies
    or takes more than `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not ready():
        if not process.alive():
            raise TransientError(f"{process.name} ended while starting; {process.log} says:\n{process.tail()}")
        if time.monotonic() > deadline:
            raise TransientError(f"{process.name} not ready after {timeout:g} s; {process.log} says:\n{process.tail()}")
        time.sleep(0.05)


def secret_file(path: Path) -> str:
    """The secret kept in the file `path` (mode 0600); a new random one, of 24 bytes in base64, when there is no such
    file yet.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, secrets.token_urlsafe(24) + "\n")
    return path.read_text().strip()


def write_private(path: Path, text: str, account: SystemUser | None = None) -> None:
    """Replace a file in one step, readable by its owner alone: us, or `account`. Raises OSError."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.touch(mode=0o600)
    new.write_text(text)
    if account is not None:
        shutil.chown(new, account.uid, account.gid)
    new.replace(path)
