"""Connections as they come, within limits: sockets that listen in; out, for each that may come in, its protocol.

They are counted before a byte of TLS is spoken, in all and of each peer, so that one peer cannot take all places, nor
many handshakes all memory. A connection over a limit is answered so, where that costs nothing, and closed.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from app.runtime.peers import grouped
from app.settings import Settings

log = structlog.get_logger()

AT_ONCE = 64  # connections accepted before anybody else's turn
BACKLOG = 1024  # connections that nobody has accepted yet
PAUSE_SECONDS = 1.0  # without a file descriptor for one more
# A client over a limit has sent something before the answer reaches it; closing with bytes unread would reset the
# connection, and the answer would be gone.
LINGER_SECONDS = 1.0
LINGERING = 64  # at once: the oldest goes for one more
SHUTDOWN_SECONDS = 5.0  # of TLS, for the other side to say good-bye
NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Seat:
    """The room of one connection; given back once, whoever does so first. `peer` is its address, without the port."""

    __slots__ = ("_group", "_listener", "peer")

    def __init__(self, listener: "Listener", peer: str, group: str) -> None:
        self._listener: Listener | None = listener
        self.peer, self._group = peer, group

    def free(self) -> None:
        """Give the room back: the connection is gone. A second call does nothing."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.freed(self._group)


class Listener:
    """Accepts connections until stopped; `open` is how many there are."""

    def __init__(
        self,
        made: Callable[[Seat], asyncio.BaseProtocol],
        most: tuple[int, int],
        tls: ssl.SSLContext | None,
        handshake_seconds: float,
        full: bytes,
        refused: Callable[[str], None],
        make_room: Callable[[], bool] = lambda: False,
    ) -> None:
        """`made`: makes the protocol of a connection. `most`: connections in all, and of one peer. `tls` None: there is
        no TLS.

        `full` is written to who is over a limit, without TLS; `refused` hears why somebody did not come in
        (too_many_connections, bad_certificate, bad_handshake). `make_room` may end a connection that nobody misses when
        there are as many as there may be; whether it has.
        """
        self._made, self._refused, self._full, self._make_room = made, refused, full, make_room
        self._most, self._most_of_a_peer = most
        self._tls, self._handshake_seconds = tls, handshake_seconds
        self._sockets: Sequence[socket.socket] = ()
        self._peers: dict[str, int] = {}
        self._opening: dict[asyncio.Task[None], None] = {}  # handshakes, the oldest first
        self._paused: asyncio.TimerHandle | None = None
        self._refused_sockets: deque[socket.socket] = deque()  # that there is no room
        self.open = 0

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept what comes there; the sockets listen already."""
        self._sockets = sockets
        for one in sockets:
            one.setblocking(False)
            one.listen(BACKLOG)
        self._resume()

    def use(self, tls: ssl.SSLContext) -> None:
        """Use another context for handshakes from now on; there was one before."""
        self._tls = tls

    def stop(self) -> None:
        """Accept nothing more; connections that are open stay. Safe twice."""
        if self._paused:
            self._paused.cancel()
        else:
            for one in self._sockets:
                asyncio.get_running_loop().remove_reader(one)
        for one in self._sockets:
            one.close()
        self._sockets = ()
        while self._refused_sockets:
            self._refused_sockets.popleft().close()
        for task in list(self._opening):
            task.cancel()

    def freed(self, group: str) -> None:
        """Count a seat of this group of peers as free again (Seat)."""
        self.open -= 1
        left = self._peers[group] - 1
        if left:
            self._peers[group] = left
        else:
            del self._peers[group]

    def _resume(self) -> None:
        self._paused = None
        for one in self._sockets:
            asyncio.get_running_loop().add_reader(one, self._accept, one)

    def _pause(self, why: OSError) -> None:
        """There is no file or memory for one more connection: waiting connections stay so, and the process goes on."""
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            loop.remove_reader(one)
        self._paused = loop.call_later(PAUSE_SECONDS, self._resume)
        log.error("gateway_cannot_accept", error=why.strerror, open=self.open, cure="raise the limit of open files")

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in NO_RESOURCES:
                    raise
                self._pause(error)
                return
            sock.setblocking(False)
            self._admit(sock, str(address[0]))

    def _admit(self, sock: socket.socket, peer: str) -> None:
        group = grouped(peer)
        taken = self._peers.get(group, 0)
        if taken >= self._most_of_a_peer or (self.open >= self._most and not self._found_room()):
            self._refused("too_many_connections")
            if self._tls is None:
                self._refuse(sock)
            else:
                sock.close()
            return
        self.open += 1
        self._peers[group] = taken + 1
        task = asyncio.get_running_loop().create_task(self._open(sock, Seat(self, peer, group)))
        self._opening[task] = None
        task.add_done_callback(lambda _: self._opening.pop(task, None))

    def _refuse(self, sock: socket.socket) -> None:
        """Send the answer that there is no room; close the socket a little later."""
        with contextlib.suppress(OSError):
            sock.send(self._full)
            sock.shutdown(socket.SHUT_WR)
        self._refused_sockets.append(sock)
        if len(self._refused_sockets) > LINGERING:
            self._refused_sockets.popleft().close()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, sock.close)

    def _found_room(self) -> bool:
        """Whether a connection was ended: one that only holds a seat, else the handshake that has taken the longest."""
        if self._make_room():
            return True
        if self._tls is None or not self._opening:
            return False
        oldest = next(iter(self._opening))
        del self._opening[oldest]
        oldest.cancel()
        self._refused("bad_handshake")
        return True

    async def _open(self, sock: socket.socket, seat: Seat) -> None:
        """Shake hands, if there is TLS; from then on the protocol gives the seat back.

        The socket is the loop's, whatever becomes of it: code that closes the socket here too may close another with
        its number.
        """
        times: dict[str, float] = {}
        if self._tls is not None:
            times = {"ssl_handshake_timeout": self._handshake_seconds, "ssl_shutdown_timeout": SHUTDOWN_SECONDS}
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._made(seat), sock, ssl=self._tls, **times
            )
        except ssl.SSLError as error:
            self._failed(seat, "bad_certificate" if of_a_certificate(error) else "bad_handshake")
        except (OSError, TimeoutError):  # ConnectionError too: it went away, or took its time
            self._failed(seat, "bad_handshake")
        except asyncio.CancelledError:
            seat.free()
            raise

    def _failed(self, seat: Seat, why: str) -> None:
        seat.free()
        self._refused(why)


def of_a_certificate(error: ssl.SSLError) -> bool:
    """Whether a handshake failed because the other side has no certificate, or none that is taken."""
    return isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE" in (error.reason or "")


def most_connections(settings: Settings) -> tuple[int, int]:
    """How many connections there may be in all, and of one peer: half of them, so that one alone takes no
    other's seat.
    """
    most = settings.gateway_connections
    if settings.gateway_behind_proxy:  # all of them are the proxy's
        return most, most
    return most, settings.gateway_peer_connections or (most + 1) // 2


def most_of_account(settings: Settings) -> int:
    """How many connections one account may have: half of all, from however many addresses."""
    return settings.gateway_account_connections or (settings.gateway_connections + 1) // 2


class AccountSeats:
    """How many each account has: one alone, from many addresses, leaves some for others."""

    def __init__(self, most: int) -> None:
        """`most`: of one account."""
        self._most = most
        self._taken: dict[str, int] = {}

    def take(self, user: str) -> bool:
        """Count one more of this account; False: the account has as many as an account may have."""
        taken = self._taken.get(user, 0)
        if taken >= self._most:
            return False
        self._taken[user] = taken + 1
        return True

    def free(self, user: str) -> None:
        """One less is."""
        if self._taken[user] > 1:
            self._taken[user] -= 1
        else:
            del self._taken[user]
