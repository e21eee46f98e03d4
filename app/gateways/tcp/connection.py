"""One TCP connection: bytes in; out, answers; between them a login, lines, and everything that may go wrong.

    1 whose it is: a client certificate, or the login line, or nobody on loopback where that is allowed  (login)
    2 lines, numbered from 1 behind the login line                                                      (line_buffer)
    3 records, and refusals                                                                             (lines)
    4 acks, once Kafka has all of it                                                                    (ack_queue)

Reading pauses while credentials are asked for, while too much of this connection, of its user or of all is not
acknowledged, and while the sender does not take its answers: so what one connection takes of this process is bounded.
What is not answered when a connection ends its sender sends again.
"""

import asyncio
from typing import cast

from app.gateways.gateway_metrics import REJECTED
from app.gateways.listener import Seat
from app.gateways.tcp.ack_queue import LINE_OVERHEAD, AckQueue
from app.gateways.tcp.answers import OK, STOPPING, closing, refused
from app.gateways.tcp.line_buffer import LineBuffer
from app.gateways.tcp.lines import NO_LINE_END, TakenLines
from app.gateways.tcp.login import EXPECTED, LOGIN_BYTES, TcpLogin, Why
from app.gateways.tcp.parts import TcpParts
from app.gateways.tcp.state import TAKING, State
from app.gateways.tcp.wire import Wire

LINES_AT_ONCE = 500  # then it is the turn of the other connections: 1 ms of good lines, 10 ms of the worst


class TcpConnection(asyncio.BufferedProtocol):
    """Ends by itself; `stop`, `abort`, `check` and `wait_for_room` are for its gateway."""

    def __init__(self, parts: TcpParts, seat: Seat) -> None:
        self._parts, self._bounds, self._seat = parts, parts.bounds, seat
        self._loop = asyncio.get_running_loop()
        self._wire = Wire()
        self._state = State.LOGIN
        self._login = TcpLogin(parts.accounts, seat.peer, parts.bounds.begun, self._identified, parts.seats)
        self._logged_in_by_line = False
        self._buffer = LineBuffer(parts.bounds.line)
        self._number = 0  # of the last line that was taken
        self._acks = AckQueue(parts.intake, self._answered, self._unanswered)
        self._last: bytes | None = None  # the last word, once all is answered
        self._gone = False  # the other side is, and lines of it are still to be taken
        self._room: asyncio.Task[None] | None = None
        self._heard = self._begun = self._loop.time()  # the last bytes, and the first of a line that has not ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Log in by the certificate, if there is one (BufferedProtocol)."""
        self._wire.attach(cast(asyncio.Transport, transport))  # uvloop's is one in all but name
        self._parts.opened(self)
        if certificate := transport.get_extra_info("peercert"):
            self._login.by_certificate(certificate)
            self._read_or_not()

    def get_buffer(self, sizehint: int) -> memoryview:
        """The place to read to, of at least so many bytes where it can be (BufferedProtocol)."""
        return self._parts.read_buffer.of(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        """Take the lines that are whole (BufferedProtocol)."""
        if self._state not in TAKING:
            return
        buffer, begun, self._heard = self._buffer, self._buffer.begun, self._loop.time()
        buffer.feed(self._parts.read_buffer.first(nbytes))
        if buffer.more or not begun:
            self._begun = self._heard
        if buffer.more or self._state is State.LOGIN:
            self._go_on()

    def eof_received(self) -> bool:
        """Answer what was sent, then end: the other side has sent all it will (BufferedProtocol)."""
        self._wire.ended = True
        if self._state is State.LOGIN and not self._login.asking:
            if not self._buffer.begun:
                return False  # it has said nothing: a probe
            self._end(*EXPECTED)
        if self._state is State.LINGERING:
            return False
        self._go_on()
        return self._wire.can_half_close

    def pause_writing(self) -> None:
        """Read no more: the sender does not take its answers (BufferedProtocol)."""
        self._wire.full(True)
        self._read_or_not()

    def resume_writing(self) -> None:
        """Read again: the sender takes its answers (BufferedProtocol)."""
        self._wire.full(False)
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the seat back, once lines that came whole are taken: the sender gets no answer (BufferedProtocol)."""
        self._wire.detach()
        if self._buffer.more and self._state in TAKING:
            self._gone = True
            self._go_on()
        else:
            self._over()

    def _over(self) -> None:
        """Make room for another connection."""
        self._gone = False
        self._state = State.LINGERING
        self._login.cancel()
        if self._room:
            self._room.cancel()
        self._seat.free()
        self._parts.closed(self)

    def stop(self) -> None:
        """Take no more; what is in flight is answered, then it is over."""
        self._finish(STOPPING)

    def abort(self) -> None:
        """Close at once."""
        if self._gone:
            self._over()
        self._wire.abort()

    def give_way(self) -> bool:
        """Close, if nobody has logged in; whether that is so."""
        if self._state is not State.LOGIN or self._login.asking:
            return False
        self._state = State.LINGERING
        self.abort()
        return True

    def wait_for_room(self) -> None:
        """Read no more until there is room for what is read; safe twice."""
        if self._room is None and self._state is State.OPEN:
            self._room = self._loop.create_task(self._until_room())
            self._read_or_not()

    def check(self, now: float) -> None:
        """End what takes too long, and ask for the account again from time to time; once a second, by the
        loop's clock.
        """
        bounds, full_since = self._bounds, self._wire.full_since
        if full_since is not None and now - full_since > bounds.idle:
            REJECTED.labels("tcp", "slow_reader").inc()
            self.abort()
        elif self._state is State.LOGIN and not self._login.asking and now - self._begun > bounds.begun:
            self._end("slow_login", f"no login came within {bounds.begun:g} seconds")
        elif self._state is State.OPEN:
            self._login.ask_again(bounds.known)
            if self._wire.reading and not self._buffer.more:
                self._check_line(now)

    def _check_line(self, now: float) -> None:
        bounds = self._bounds
        if self._buffer.begun:
            if now - self._begun > bounds.begun:
                self._end("slow_line", f"a line took more than {bounds.begun:g} seconds to come whole")
        elif not self._acks and now - self._heard > bounds.idle:
            self._finish(closing("idle", f"nothing came for {bounds.idle:g} seconds; a blank line keeps it open"))

    def _identified(self, why: Why | None) -> None:
        self._heard = self._begun = self._loop.time()
        if why is not None:
            self._end(*why)
        elif self._state is State.LOGIN:
            self._state = State.OPEN
            if self._logged_in_by_line:
                self._wire.write(OK)
            if self._parts.intake.full:
                self.wait_for_room()
        self._go_on()

    def _go_on(self) -> None:
        """Take as many lines as may be taken now; pause or resume reading."""
        if self._state is State.LOGIN:
            self._log_in()
        elif self._state is State.OPEN:
            if self._buffer.more and not self._held:
                self._take()
            if self._wire.ended and not self._buffer.more:
                self._take_the_rest()
                self._finish(None)
        self._read_or_not()
        self._close_once_answered()

    def _log_in(self) -> None:
        """By the first line; one that is too long for a login is that of somebody who needs none, or of nobody."""
        if self._login.asking:
            return
        if self._buffer.more:
            first = self._buffer.take(1)[0]
            self._logged_in_by_line = self._login.by_line(first)
            if not self._logged_in_by_line:
                self._buffer.put_back(first)
        elif self._buffer.begun > LOGIN_BYTES:
            self._login.by_line(self._buffer.first)

    def _take(self) -> None:
        assert self._login.account
        lines, first = self._buffer.take(LINES_AT_ONCE), self._number + 1
        self._number += len(lines)
        taken = self._parts.taker.take(self._login.account, lines, first)
        self._acks.add(taken, self._number, self._buffer.taken + LINE_OVERHEAD * len(lines))
        if self._parts.intake.full:
            self._parts.full()
        if self._buffer.more:
            self._loop.call_soon(self._go_on)

    def _take_the_rest(self) -> None:
        """A line that did not end is none: what is missing may be the half of a number."""
        if self._buffer.begun:
            self._number += 1
            REJECTED.labels("tcp", NO_LINE_END.reason).inc()
            self._acks.add(TakenLines([], (), [refused(self._number, NO_LINE_END)], []), self._number, 0)

    @property
    def _held(self) -> bool:
        """Whether nothing more may be taken now; once that is so, half of the bound has to be free again."""
        most = self._bounds.unacked if self._wire.reading else self._bounds.unacked // 2
        if self._room or self._wire.full_since is not None or self._acks.size > most:
            return True
        account = self._login.account
        return bool(self._acks) and account is not None and self._parts.intake.crowded(account)

    def _read_or_not(self) -> None:
        if self._state in TAKING:
            asking = self._state is State.LOGIN and self._login.asking
            held = asking or self._buffer.more or self._held
            if self._wire.read(not held or self._buffer.size < self._wire.ahead):
                self._heard = self._begun = self._loop.time()

    async def _until_room(self) -> None:
        await self._parts.intake.room()
        self._room = None
        self._go_on()

    def _answered(self, answer: bytes) -> None:
        self._wire.write(answer)
        self._go_on()

    def _unanswered(self) -> None:
        """The intake has stopped before Kafka's ack."""
        self._finish(STOPPING)

    def _end(self, reason: str, error: str) -> None:
        REJECTED.labels("tcp", reason).inc()
        self._finish(closing(reason, error))

    def _finish(self, last: bytes | None) -> None:
        """Take nothing more; `last` is the last word, once everything that was taken is answered."""
        if self._state in TAKING:
            self._state, self._last = State.FINISHING, last
            self._buffer.clear()
            self._wire.read(False)
            self._close_once_answered()
            if self._gone:
                self._over()

    def _close_once_answered(self) -> None:
        if self._state is State.FINISHING and not self._acks:
            self._state = State.LINGERING
            self._wire.close(self._last)
