"""Sockets that listen: a host and a port in; out, a socket for each address of the host, or why there is no socket."""

import errno
import os
import socket

from app.errors import MachineError

WAITING = 128  # connections that nobody has accepted yet


def listen(host: str, port: int, what: str, prefix: str) -> list[socket.socket]:
    """TCP sockets that listen, one for each address of the host, all at one port; port 0 takes a free port.

    `what` is served there, and `prefix` begins the names of its settings, such as IOT_METRICS: both are for people to
    read. The caller closes the sockets. Raises MachineError when somebody listens there already, when the host is not
    known or none of its addresses is one of this machine, and when the port is not allowed.
    """
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            taken = made[0].getsockname()[1] if made else port
            made += _at(family, (str(address[0]), taken))
        if not made:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    except OSError as error:  # gaierror too
        for one in made:
            one.close()
        why = "something listens there already" if error.errno == errno.EADDRINUSE else error.strerror
        cure = f"set {prefix}_PORT to a free one, or {prefix}_HOST to an address of this machine"
        raise MachineError(f"cannot serve {what} at port {port} of {host}: {why}; {cure}") from None
    return made


def _at(family: int, where: tuple[str, int]) -> list[socket.socket]:
    """The socket of one address; none for an address that this machine has not: ::1 of localhost, without IPv6."""
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return []
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
        made.bind(where)
        made.listen(WAITING)
    except OSError as error:
        made.close()
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return []
        raise
    return [made]
