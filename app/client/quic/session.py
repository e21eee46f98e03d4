"""One connection to the QUIC gateway: frames out, answers in, and why the connection ended. Retries are sender.py's."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import NetworkAddress
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent, StreamDataReceived, StreamReset
from google.protobuf.message import DecodeError

from app.client.quic.connection import SenderConnection
from app.errors import TransientError
from app.protobuf.metrics_pb2 import BatchAck
from app.runtime.quic.contract import CRYPTO_ERRORS, FOR_EVER, CloseCode
from app.runtime.quic.frames import FrameReader, framed
from app.runtime.quic.link import Link

ANSWER_BYTES = 16 << 20  # largest answer: 10,000 items that are refused, each with a sentence
CONNECT_SECONDS = 10.0
PING_SECONDS = 15.0  # of silence: the gateway may have nothing to say while Kafka is away
DEAD_SECONDS = 5.0  # without a packet, after we sent one: a live gateway acknowledges packets at once
LOOK_SECONDS = 1.0


class SessionEnd(NamedTuple):
    """Why a connection is gone."""

    words: str
    for_ever: bool = False  # a further connection would end in the same way


class QuicSession(asyncio.DatagramProtocol):
    """A connection from `open_session` to its end; then `closed` is done, with the reason."""

    def __init__(self, configuration: QuicConfiguration, answered: Callable[[int, BatchAck], None]) -> None:
        """`answered` gets the number of a stream and each answer on it, in order."""
        loop = asyncio.get_running_loop()
        self.connected: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[SessionEnd] = loop.create_future()
        self._loop, self._answered = loop, answered
        self._quic = SenderConnection(configuration=configuration)
        self._link = Link(self._quic, self._send, self._handle)
        self._readers: dict[int, FrameReader] = {}
        self._transport: asyncio.DatagramTransport | None = None
        self._address: NetworkAddress = None
        self._watch: asyncio.TimerHandle | None = None
        self._asked_at: float | None = None  # since when a word of the gateway is due

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open (asyncio.Protocol)."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        self._address = transport.get_extra_info("peername")
        self._quic.connect(self._address, now=self._loop.time())
        self._link.soon()
        self._link.heard_at = self._loop.time()
        self._watch = self._loop.call_later(LOOK_SECONDS, self._look)

    def datagram_received(self, data: bytes, addr: NetworkAddress) -> None:
        """Take a datagram of the gateway: the socket is connected to it (asyncio.Protocol)."""
        if self._quic.forgotten(data):
            self._end(SessionEnd("the gateway was restarted"))
        else:
            self._link.received(data, self._address)

    def error_received(self, exc: Exception) -> None:
        """End: no gateway listens any more, or the network is gone (asyncio.Protocol)."""
        self._end(SessionEnd(f"nothing listens there: {exc}"))

    def open_stream(self) -> int:
        """Open a stream; returns its number."""
        number = self._quic.get_next_available_stream_id()
        self._readers[number] = FrameReader(ANSWER_BYTES)
        self._quic.send_stream_data(number, b"")
        return number

    def send(self, stream: int, body: bytes) -> None:
        """Write a frame with `body`; on a connection or a stream that is gone this does nothing."""
        if not self.closed.done() and stream in self._readers:
            self._quic.send_stream_data(stream, framed(body))
            self._asked()

    def forget_stream(self, stream: int) -> None:
        """Give a stream up: nothing more is written to it, nor read from it."""
        if self._readers.pop(stream, None) and not self.closed.done():
            self._quic.reset_stream(stream, CloseCode.DONE)
            self._link.soon()

    def close(self) -> None:
        """Say good-bye, and close the socket. Closing again does nothing."""
        if not self.closed.done():
            self._quic.close(error_code=CloseCode.DONE)
            self._link.flush()
            self._end(SessionEnd("closed"))

    def _send(self, data: bytes, _: NetworkAddress) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.sendto(data)

    def _handle(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            self._received(event)
        elif isinstance(event, HandshakeCompleted) and not self.connected.done():
            self.connected.set_result(None)
        elif isinstance(event, StreamReset) and event.stream_id in self._readers:
            self._end(SessionEnd("the gateway ended a stream"))
        elif isinstance(event, ConnectionTerminated):
            self._end(self._why(event))

    def _received(self, event: StreamDataReceived) -> None:
        reader = self._readers.get(event.stream_id)
        if reader is None:
            return
        for body in reader.feed(event.data):
            try:
                answer = BatchAck.FromString(body)
            except DecodeError:
                self._end(SessionEnd("the gateway's answer is no BatchAck"))
                return
            self._answered(event.stream_id, answer)
        if reader.fault:
            self._end(SessionEnd(f"the gateway's answer is none: {reader.fault.error}"))

    def _why(self, event: ConnectionTerminated) -> SessionEnd:
        code, said = event.error_code, event.reason_phrase
        if event.frame_type is None:  # an application's code
            return SessionEnd(said or f"closed by the gateway, code {code}", code in FOR_EVER)
        if code in CRYPTO_ERRORS:
            greeted = self.connected.done() and not self.connected.exception()
            what = "the gateway refuses our certificate" if greeted else "no handshake with the gateway"
            return SessionEnd(f"{what}: {said or f'TLS alert {code - CRYPTO_ERRORS.start}'}", True)
        return SessionEnd(said or f"QUIC error {code}")

    def _asked(self) -> None:
        """Note that the gateway owes a packet: it acknowledges what was just sent, if it is alive."""
        if self._asked_at is None or self._link.heard_at >= self._asked_at:
            self._asked_at = self._loop.time()
        self._link.soon()

    def _look(self) -> None:
        """Check every second whether the gateway is still alive."""
        now, heard = self._loop.time(), self._link.heard_at
        asked = self._asked_at if self._asked_at is not None and self._asked_at > heard else None
        if asked is not None and now - asked > DEAD_SECONDS:
            self._end(SessionEnd(f"nothing heard from the gateway for {now - heard:.0f} s"))
            return
        if asked is None and now - heard >= PING_SECONDS and self.connected.done():
            self._quic.send_ping(0)
            self._asked()
        self._watch = self._loop.call_later(LOOK_SECONDS, self._look)

    def _end(self, why: SessionEnd) -> None:
        if self.closed.done():
            return
        self.closed.set_result(why)
        if not self.connected.done():
            self.connected.set_exception(TransientError(why.words))
            self.connected.exception()  # retrieved: perhaps no task waits
        if self._watch:
            self._watch.cancel()
        self._link.abandon()
        if self._transport:
            self._transport.close()


async def open_session(
    address: tuple[str, int], configuration: QuicConfiguration, answered: Callable[[int, BatchAck], None]
) -> QuicSession:
    """A connection whose handshake is complete, or that has ended: `closed` says why. Raises TransientError, OSError.

    The gateway looks at our certificate after that: a connection whose certificate it refuses ends soon.
    """
    host, port = address
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    places = dict.fromkeys((str(where[0]), port) for _, _, _, _, where in found)
    return await open_first(list(places), configuration, answered)


async def open_first(
    places: Sequence[tuple[str, int]],
    configuration: QuicConfiguration,
    answered: Callable[[int, BatchAck], None],
    seconds: float = CONNECT_SECONDS,
) -> QuicSession:
    """As `open_session`, to the first of several addresses that answers; a name may have an address of IPv6 too, at
    which no gateway listens, or which no packet reaches. `seconds` is the time for all of them.
    """
    logging.getLogger("quic").setLevel(logging.CRITICAL)  # aioquic would log what `closed` says
    each = seconds / len(places)
    for place in places[:-1]:
        with suppress(OSError, TransientError):
            session = await _opened(place, configuration, answered, each)
            if not session.closed.done() or session.closed.result().for_ever:
                return session
    return await _opened(places[-1], configuration, answered, each)


async def _opened(
    place: tuple[str, int], configuration: QuicConfiguration, answered: Callable[[int, BatchAck], None], seconds: float
) -> QuicSession:
    _, session = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: QuicSession(configuration, answered), remote_addr=place
    )
    try:
        async with asyncio.timeout(seconds):
            either: list[asyncio.Future[Any]] = [session.connected, session.closed]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        session.close()
        raise TransientError(f"no answer from {place[0]} within {seconds:.0f} s") from None
    return session
