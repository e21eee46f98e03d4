"""What the library that sends may do in this process: in, where channels may go; out, an error for anything else.

The library resolves names and connects by itself, follows redirects, and some of its services start programs. So each
look-up and each connection of a guarded thread is checked where Python makes it (PEP 578), with the address that is
connected to: a name that resolves to another address the second time gets nowhere.
"""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app.notify.channels.channel import AllowedTargets

_RESOLVES, _CONNECTS = "socket.getaddrinfo", ("socket.connect", "socket.sendto", "socket.sendmsg")
# Nor are there other ways to an address, or to another program.
_NEVER = (
    "socket.gethostbyname", "subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
    "os.system", "pty.spawn",
)  # fmt: skip


class ConnectionGuard:
    """What a guarded thread was refused, and where it goes."""

    def __init__(self, allowed: AllowedTargets) -> None:
        self.refused: str | None = None  # the first refusal, in words
        self._allowed, self._host = allowed, ""

    def check(self, event: str, args: tuple[Any, ...]) -> None:
        """Raises PermissionError for what is not allowed."""
        wrong = None
        if event == _RESOLVES:
            self._host = args[0].decode("ascii", "replace") if isinstance(args[0], bytes) else str(args[0])
            wrong = self._allowed.refuses_host(self._host)
        elif event in _CONNECTS:
            address = args[1]
            wrong = f"{event} to {type(address).__name__}"
            if isinstance(address, tuple):
                wrong = self._allowed.refuses_address(self._host or str(address[0]), str(address[0]))
        elif event == "socket.gethostbyaddr" and args[0] != socket.gethostname():  # smtplib asks for its own name
            wrong = f"a channel looks up no address such as {args[0]}"
        elif event in _NEVER:
            wrong = f"a channel does not use {event}"
        if wrong is not None:
            self.refused = self.refused or wrong
            raise PermissionError(wrong)


class _Local(threading.local):
    watch: ConnectionGuard | None = None


_local, _lock = _Local(), threading.Lock()
_hooked: list[bool] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    watch = _local.watch
    if watch is not None and (event.startswith("socket.") or event in _NEVER):
        watch.check(event, args)


@contextmanager
def guarded(allowed: AllowedTargets) -> Iterator[ConnectionGuard]:
    """While this is open, the calling thread connects only to where channels may go, and starts no program. Threads
    that it starts are not guarded; all other threads do as they did.
    """
    with _lock:
        if not _hooked:
            sys.addaudithook(_hook)  # for good: there is no way to take one out
            _hooked.append(True)
    watch = _local.watch = ConnectionGuard(allowed)
    try:
        yield watch
    finally:
        _local.watch = None
