"""A QUIC connection on a UDP socket of asyncio: datagrams in, events out; sends what is due, and keeps the timer.

Link does once a turn of the event loop, for all datagrams of the turn, what aioquic.asyncio does for each datagram.
"""

import asyncio
from collections.abc import Callable

import structlog
from aioquic.quic.connection import NetworkAddress, QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent
from aioquic.quic.packet import QuicErrorCode

log = structlog.get_logger()

# What a bug in aioquic would raise: a peer that finds a bug ends its own connection with it, and nobody else's.
BUGS = (ArithmeticError, AssertionError, AttributeError, BufferError, LookupError, RuntimeError, TypeError, ValueError)

Send = Callable[[bytes, NetworkAddress], None]


class Link:
    """Drives one connection until it has ended; `ended` then says so, and nothing calls the link any more."""

    def __init__(self, quic: QuicConnection, send: Send, handle: Callable[[QuicEvent], None]) -> None:
        """`send` writes one datagram to an address; `handle` gets each event, the last of which is
        ConnectionTerminated, once. To be made within the event loop that drives it.
        """
        self.quic = quic
        self.ended = False
        self.heard_at = 0.0  # when the last datagram came, seconds of the loop's clock; 0: none came yet
        self._loop = asyncio.get_running_loop()
        self._send, self._handle = send, handle
        self._turn: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def received(self, data: bytes, address: NetworkAddress) -> None:
        """A datagram has come. Its events follow in this turn of the event loop."""
        if self.ended:
            return
        self.heard_at = self._loop.time()
        try:
            self.quic.receive_datagram(data, address, now=self.heard_at)
        except BUGS as error:
            self._break(error)
        else:
            self.soon()

    def soon(self) -> None:
        """Something is to be sent: in this turn of the event loop, with all else that is."""
        if self._turn is None and not self.ended:
            self._turn = self._loop.call_soon(self._take_turn)

    def flush(self) -> None:
        """Send what is due now."""
        if self._turn:
            self._turn.cancel()
        self._take_turn()

    def abandon(self) -> None:
        """Let go of the connection without a word to the peer; `handle` is not called any more."""
        self.ended = True
        for handle in (self._turn, self._timer):
            if handle:
                handle.cancel()
        self._turn = self._timer = None

    def _take_turn(self) -> None:
        self._turn = None
        self._dispatch()
        if not self.ended:
            self._transmit()
            self._dispatch()  # sending issues connection ids, which have to be known before they come back
        if not self.ended:
            self._arm()

    def _dispatch(self) -> None:
        while not self.ended and (event := self.quic.next_event()) is not None:
            if isinstance(event, ConnectionTerminated):
                self.abandon()
            self._handle(event)

    def _transmit(self) -> None:
        try:
            for data, address in self.quic.datagrams_to_send(now=self._loop.time()):
                self._send(data, address)
        except BUGS as error:
            self._break(error)

    def _arm(self) -> None:
        """A timer that is due too early asks again; to make a new timer for each packet would cost more."""
        at = self.quic.get_timer()
        if at is None or (self._timer and self._timer_at <= at):
            return
        if self._timer:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        at, now = self.quic.get_timer(), max(self._loop.time(), self._timer_at)
        if at is None:
            return
        if now < at:
            self._arm()
            return
        try:
            self.quic.handle_timer(now=now)
        except BUGS as error:
            self._break(error)
        else:
            self.flush()

    def _break(self, error: BaseException) -> None:
        log.warning("quic_connection_broken", error=f"{type(error).__name__}: {error}", note="this connection ends")
        self.abandon()
        self._handle(ConnectionTerminated(QuicErrorCode.INTERNAL_ERROR, None, "the connection is broken"))
