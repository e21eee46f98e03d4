"""What the library that sends may do in this process: in, where channels may go; out, an error for anything else.

The library resolves names and connects by itself, follows redirects, and some of its services start programs. So each
look-up and each connection of a guarded thread is checked where Python makes it (PEP 578), with the address that is
connected to: a name that resolves to another address the second time gets nowhere. A service that answers byte by byte
would keep the thread for as long as it likes, so the connections can be ended from outside.
"""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from app.notify.channels.channel import AllowedTargets

_RESOLVES, _CONNECTS = "socket.getaddrinfo", ("socket.connect", "socket.sendto", "socket.sendmsg")
_NAMES = ("socket.gethostbyname", "socket.gethostbyaddr")
# Nor are there other ways to an address, or to another program.
_NEVER = (
    "subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
    "os.system", "pty.spawn",
)  # fmt: skip


class ConnectionGuard:
    """What one guarded thread was refused, where it goes, and the end of it."""

    def __init__(self, allowed: AllowedTargets) -> None:
        self.refused: str | None = None  # the first refusal, in words
        self.over = False  # `end` was called
        self._allowed, self._host = allowed, ""
        self._lock, self._connections = threading.Lock(), list[socket.socket]()

    def end(self) -> None:
        """End the connections of the thread, from another thread, and let it make no more; safe when it is done."""
        with self._lock:
            self.over = True
            for one in self._connections:
                with suppress(OSError):  # it is not connected
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """The thread is done."""
        with self._lock:
            while self._connections:
                self._connections.pop().close()

    def check(self, event: str, args: tuple[Any, ...]) -> None:
        """Raises PermissionError for what is not allowed, TimeoutError after `end`."""
        if self.over and (event == _RESOLVES or event in _CONNECTS):
            raise TimeoutError("the time for this message is over")
        wrong = self._wrong(event, args)
        if wrong is not None:
            self.refused = self.refused or wrong
            raise PermissionError(wrong)
        if event == "socket.connect":
            self._note(args[0])

    def _note(self, connecting: Any) -> None:
        """Keep a descriptor of our own: the library may close its own at any time, and its number be another's then."""
        made = socket.socket(connecting.family, connecting.type, connecting.proto, os.dup(connecting.fileno()))
        with self._lock:
            self._connections.append(made)
            if self.over:
                raise TimeoutError("the time for this message is over")

    def _wrong(self, event: str, args: tuple[Any, ...]) -> str | None:
        wrong = None
        if event == _RESOLVES:
            self._host = args[0].decode("ascii", "replace") if isinstance(args[0], bytes) else str(args[0])
            wrong = self._allowed.refuses_host(self._host)
        elif event in _CONNECTS:
            address = args[1]
            wrong = f"{event} to {type(address).__name__}"
            if isinstance(address, tuple):
                wrong = self._allowed.refuses_address(self._host or str(address[0]), str(address[0]))
        elif event in _NAMES and args[0] != socket.gethostname():  # smtplib asks for its own name
            wrong = f"a channel does not look up {args[0]!r} by {event}"
        elif event in _NEVER:
            wrong = f"a channel does not use {event}"
        return wrong


class _Local(threading.local):
    watch: ConnectionGuard | None = None


_local, _lock = _Local(), threading.Lock()
_hooked: list[bool] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    watch = _local.watch
    if watch is not None and (event.startswith("socket.") or event in _NEVER):
        watch.check(event, args)


@contextmanager
def guarded(watch: ConnectionGuard) -> Iterator[None]:
    """While this is open, the calling thread connects only to where channels may go, and starts no program. Threads
    that it starts are not guarded; all other threads do as they did.
    """
    with _lock:
        if not _hooked:
            sys.addaudithook(_hook)  # for good: there is no way to take one out
            _hooked.append(True)
    _local.watch = watch
    try:
        yield
    finally:
        _local.watch = None
        watch.close()
