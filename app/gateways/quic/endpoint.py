"""Datagrams of a UDP port -> connections: each goes to the one whose id it bears, and a first one may begin another.

Nothing is kept of an address that has not shown that it receives what is sent to it: the first datagram is answered by
a retry with a token, and a spoofed address gets no further (RFC 9000, 8.1.2). Handshakes cost two signatures
each, so there is a pace of them, half of it for one peer, and a bound on those that are not complete.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import cast

from aioquic._buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import TRANSPORT_CLOSE_FRAME_CAPACITY, NetworkAddress
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.retry import QuicRetryTokenHandler

from app.core.ingress.limits import Ingress, IngressLimits
from app.errors import MachineError
from app.gateways.quic.reset import ResetTokens
from app.runtime.peers import grouped
from app.runtime.quic.link import Link

RECEIVE_BUFFER = 4 << 20  # bytes; the system gives at most net.core.rmem_max
ID_BYTES = 8
LONG_HEADER = 0x80
BURST_SECONDS = 1.0
RESETS = 500.0  # a second

# (the first header, that the client chose, our retry's) -> the link of a new connection
Open = Callable[[bytes, bytes | None, NetworkAddress], Link]
# Why there can be no other connection of this peer now; None: there can.
Full = Callable[[str], str | None]


class Endpoint(asyncio.DatagramProtocol):
    """The connections of one UDP port."""

    def __init__(
        self, configuration: QuicConfiguration, tokens: ResetTokens, open_link: Open, full: Full, handshakes: float
    ) -> None:
        """`open_link` makes a connection, `full` says why there can be none; `handshakes`: how many may
        begin a second.
        """
        self.transport: asyncio.DatagramTransport | None = None
        self._configuration, self._tokens, self._open, self._full = configuration, tokens, open_link, full
        self._links: dict[bytes, Link] = {}
        self._retry = QuicRetryTokenHandler()
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()  # the port is free again
        self._pace = Ingress(IngressLimits(user_messages=handshakes, burst=BURST_SECONDS))
        self._pace_of_resets = Ingress(IngressLimits(user_messages=RESETS, burst=BURST_SECONDS))
        self._pace_of_one = Ingress(IngressLimits(user_messages=handshakes / 2, burst=BURST_SECONDS))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The port is open (asyncio.Protocol)."""
        self.transport = cast(asyncio.DatagramTransport, transport)
        found = transport.get_extra_info("socket")
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def connection_lost(self, exc: Exception | None) -> None:
        """The port is closed (asyncio.Protocol)."""
        self.closed.set_result(None)

    def datagram_received(self, data: bytes, addr: NetworkAddress) -> None:
        """Hand a datagram to the connection whose it is, or to none (asyncio.Protocol). Never raises, whatever it
        holds.
        """
        if data and not data[0] & LONG_HEADER:  # nearly every one, and quicker than to read the whole header
            link = self._links.get(data[1 : 1 + ID_BYTES])
            if link is None:
                self._reset(data, addr)
        else:
            link = self._of_long_header(data, addr)
        if link:
            link.received(data, addr)

    def send(self, data: bytes, address: NetworkAddress) -> None:
        """Send a datagram; nothing is done once the port is closing."""
        if self.transport and not self.transport.is_closing():
            self.transport.sendto(data, address)

    def known(self, connection_id: bytes, link: Link) -> None:
        """Hand datagrams with this id to this connection from now on."""
        self._links[connection_id] = link

    def forget(self, connection_id: bytes) -> None:
        """Hand datagrams with this id to nobody any more."""
        self._links.pop(connection_id, None)

    def _reset(self, data: bytes, address: NetworkAddress) -> None:
        """A sender that still holds a connection from before a restart gets a reset."""
        if self._pace_of_resets.fault("", None, 0, self._loop.time()) is None:
            answer = self._tokens.datagram(data[1 : 1 + ID_BYTES], len(data))
            if answer:
                self.send(answer, address)

    def _of_long_header(self, data: bytes, address: NetworkAddress) -> Link | None:
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=ID_BYTES)
        except ValueError:
            return None
        if header.version is None or header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            return None  # to answer either might go on for ever
        if header.version not in self._configuration.supported_versions:
            if len(data) >= SMALLEST_MAX_DATAGRAM_SIZE:  # less than came goes back
                self.send(self._versions(header), address)
            return None
        link = self._links.get(header.destination_cid)
        if link or header.packet_type is not QuicPacketType.INITIAL or len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            return link
        return self._first(header, address)

    def _first(self, header: QuicHeader, address: NetworkAddress) -> Link | None:
        """A connection, if the client has shown that it receives at its address, and there may be another."""
        if not header.token:
            self.send(self._ask_again(header, address), address)
            return None
        try:
            original = self._retry.validate_token(
                address=address, destination_cid=header.destination_cid, token=header.token, now=self._loop.time()
            )
        except ValueError:
            self.send(refusal(header, QuicErrorCode.INVALID_TOKEN, "the token is not of this gateway, or old"), address)
            return None
        now, peer = self._loop.time(), grouped(str(address[0]))
        if self._pace_of_one.fault(peer, None, 0, now) or self._pace.fault("", None, 0, now):
            return None  # it asks again by itself
        if why := self._full(peer):
            self.send(refusal(header, QuicErrorCode.CONNECTION_REFUSED, why), address)
            return None
        return self._open(original, header.destination_cid, address)

    def _versions(self, header: QuicHeader) -> bytes:
        return encode_quic_version_negotiation(
            source_cid=header.destination_cid,
            destination_cid=header.source_cid,
            supported_versions=self._configuration.supported_versions,
        )

    def _ask_again(self, header: QuicHeader, address: NetworkAddress) -> bytes:
        chosen = os.urandom(ID_BYTES)
        token = self._retry.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=chosen,
            now=self._loop.time(),
        )
        assert header.version is not None
        return encode_quic_retry(
            version=header.version,
            source_cid=chosen,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )


async def listen(endpoint: Endpoint, host: str, port: int) -> None:
    """Open the port. Raises MachineError, with the address and the cure, when it cannot be."""
    try:
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: endpoint, local_addr=(host, port))
    except OSError as error:
        found = error.__cause__ if isinstance(error.__cause__, OSError) else error  # uvloop's own has no number
        why = "something listens there already" if found.errno == errno.EADDRINUSE else found.strerror or str(found)
        cure = "set IOT_QUIC_PORT to a free one, or IOT_QUIC_HOST to an address of this machine"
        raise MachineError(f"cannot serve QUIC at UDP port {port} of {host}: {why}; {cure}") from None


def refusal(header: QuicHeader, code: QuicErrorCode, words: str) -> bytes:
    """A datagram that refuses the connection that `header` would begin; nothing is kept of it."""
    assert header.version is not None
    crypto = CryptoPair()
    crypto.setup_initial(cid=header.destination_cid, is_client=False, version=header.version)
    builder = QuicPacketBuilder(
        host_cid=header.destination_cid,
        is_client=False,
        max_datagram_size=SMALLEST_MAX_DATAGRAM_SIZE,
        peer_cid=header.source_cid,
        version=header.version,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    reason = words.encode()
    capacity = TRANSPORT_CLOSE_FRAME_CAPACITY + len(reason)
    buffer = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=capacity)
    buffer.push_uint_var(code)
    buffer.push_uint_var(QuicFrameType.PADDING)
    buffer.push_uint_var(len(reason))
    buffer.push_bytes(reason)
    datagrams, _ = builder.flush()
    return datagrams[0]
