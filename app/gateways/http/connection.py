"""One HTTP connection, of aiohttp's, with what aiohttp leaves open: time for a head, for a request, and clear refusals.

A message whose head the connection has sent before goes a way without aiohttp (repeats), which awaits the next head
meanwhile; one request is under way at a time, by whichever way.

It leans on private parts of aiohttp's RequestHandler (`_waiter`, `_messages`, `_current_request`, `_close`,
`_force_close`, `_request_in_progress`, `_process_keepalive`, `_next_keepalive_close_time`), which
tests/contract/gateways/http/test_aiohttp_internals.py watches; no other file does.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp import web
from msgspec import Struct

from app.gateways.http.problem import (
    BUG,
    HEAD_BYTES,
    HEAD_LIMITS,
    HEAD_TOO_LARGE,
    NATIVE,
    SLOW_HEAD,
    Problem,
    of_failure,
    whole,
)
from app.gateways.http.ready_answer import AnswerHead
from app.gateways.http.repeats.heads import KnownHead, KnownHeads
from app.gateways.listener import Seat
from app.ports import Account

log = structlog.get_logger()

LINGER_SECONDS = 2.0  # to read what comes behind a request that is refused, so that its sender sees why

Repeat = Callable[["HttpConnection", KnownHead, bytes], bool]  # whether it answers (repeats.messages)


class ConnectionBounds(Struct, frozen=True):
    """How long a connection may take, in seconds."""

    head: float  # from its first byte, or from the start of the connection, to the end of a request's head
    idle: float  # between two requests
    request: float  # from a head to the last byte of the answer


class Common:
    """What all connections of a gateway have in common."""

    def __init__(self, bounds: ConnectionBounds, refused: Callable[[str], None], repeat: Repeat | None) -> None:
        """As HttpServer has them."""
        self.bounds, self.refused, self.repeat = bounds, refused, repeat
        self.under_way = 0  # requests
        self.quiet: asyncio.Event | None = None  # from the stop on, set once nothing is under way

    def ended(self) -> None:
        """One request less is under way."""
        self.under_way -= 1
        if self.quiet is not None and not self.under_way:
            self.quiet.set()


class HttpConnection(web.RequestHandler):
    """A connection of one peer."""

    __slots__ = ("_answered", "_behind", "_common", "_head_bytes", "_head_since", "_seat", "began", "heads", "known")

    def __init__(self, server: web.Server, common: Common, seat: Seat, loop: asyncio.AbstractEventLoop) -> None:
        options: dict[str, Any] = {"access_log": None, **HEAD_LIMITS}  # a query may have a password in it
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=common.bounds.idle,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
            **options,
        )
        self._seat, self._common, self.heads = seat, common, KnownHeads()
        self._behind: bytes | None = None  # what came behind a request that `repeat` answers; None: there is none
        self._head_since: float | None = None  # since when a head is awaited that has to come
        self._head_bytes = 0
        self.began = self._answered = loop.time()  # when the last request began, or the connection
        self.known: tuple[str, Account, float] | None = None  # credentials of the last request, and until when

    @property
    def peer(self) -> str:
        """The address of the other side."""
        return self._seat.peer

    @property
    def broken(self) -> bool:
        """Whether what came last is no HTTP: of a body that is not there whole, nothing more will come."""
        return bool(self._messages) and not hasattr(self._messages[-1][0], "headers")

    @property
    def idle(self) -> bool:
        """Whether no request is under way, and none has come whole."""
        return not (self._request_in_progress or self._messages or self._behind is not None or self.heads.held)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Expect a first head (asyncio.Protocol)."""
        super().connection_made(transport)
        self._head_since = self._loop.time()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the seat back (asyncio.Protocol)."""
        self._seat.free()
        if self.heads.held:
            self._common.ended()
            self._common.refused("bad_body")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Find out whether it is what has come before, else give it to aiohttp (asyncio.Protocol)."""
        if self._behind is not None:
            self._keep(data)
            return
        waiter = self._waiter
        waits = waiter is not None and not waiter.done() and not self._messages
        if waits and self.heads.known:
            held, self.heads.held = self.heads.held, b""
            data = held + data if held else data
            found = self.heads.find(data)
            taken = self._repeat(*found) if found is not None else self._hold()
            if held:
                self._common.ended()
            if taken:
                return
        self._parse(data, waits)

    def _parse(self, data: bytes, waits: bool) -> None:
        """Note whether a head has come whole, as far as it must."""
        self.heads.passed(data, waits)
        super().data_received(data)
        waiter = self._waiter
        if waiter is None or waiter.done():  # a request is under way, or has just come
            self._head_since = None
            self._head_bytes = 0
            if self._messages and self._current_request is not None and self.broken:
                self._current_request.content.set_exception(web.RequestPayloadError("the body is malformed"))
            return
        self._head_bytes += len(data)
        if self._head_since is None:
            self._head_since = self._loop.time()
        if self._head_bytes > HEAD_BYTES:
            self._end(HEAD_TOO_LARGE)

    def _hold(self) -> bool:
        """Whether a head is held back until its body comes: then a request is under way."""
        if not self.heads.held:
            return False
        self._common.under_way += 1
        return True

    def _repeat(self, head: KnownHead, body: bytes) -> bool:
        """Whether the request is under way without aiohttp, which awaits the next head meanwhile."""
        common = self._common
        if common.repeat is None or self._close or self._force_close or self.writing_paused:
            return False
        self.began = self._loop.time()
        self._behind = b""
        common.under_way += 1
        if common.repeat(self, head, body):
            return True
        self._behind = None
        common.ended()
        return False

    def answer(self, head: AnswerHead, body: bytes) -> None:
        """Answer the request that `repeat` has in hand; what has come behind it is next."""
        transport, behind = self.transport, self._behind
        self._behind = None
        self._common.ended()
        if transport is None or transport.is_closing():
            return
        if self._common.quiet is not None:
            transport.write(head.last().whole(body))
            self.force_close()
            return
        transport.write(head.whole(body))
        self._answered = self._loop.time()
        if behind:
            transport.resume_reading()
            self.data_received(behind)

    def _keep(self, data: bytes) -> None:
        """Let what came behind a request wait for its answer: no more than one read."""
        if not self._behind and self.transport is not None:
            self.transport.pause_reading()
        self._behind = (self._behind or b"") + data

    def check(self, now: float) -> None:
        """End the connection if its head, or its request, takes too long; `now` is of the loop's clock."""
        busy = self._request_in_progress or self._behind is not None or self.writing_paused
        if self._head_since is not None and now - self._head_since > self._common.bounds.head:
            self._end(SLOW_HEAD if self._head_bytes else None)
        elif busy and now - self.began > self._common.bounds.request and self.transport is not None:
            self._common.refused("slow_reader")
            self.transport.abort()
        elif self.heads.held and self._common.quiet is None:  # its body takes time, which aiohttp's way bounds
            held, self.heads.held = self.heads.held, b""
            self._common.ended()
            self._parse(held, waits=True)

    def _process_keepalive(self) -> None:
        """Close after the idle time, which requests that aiohttp does not see end as well (aiohttp)."""
        busy = self._behind is not None or self.heads.held or self.writing_paused
        last = self._loop.time() if busy else self._answered
        self._next_keepalive_close_time = max(self._next_keepalive_close_time, last + self._common.bounds.idle)
        super()._process_keepalive()

    def _end(self, problem: Problem | None) -> None:
        """Answer with the reason, if the client sent anything, and close."""
        if problem is not None:
            self._common.refused(problem.reason)
            if self.transport is not None:
                self.transport.write(whole(problem))
        self.force_close()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what is no request, and to a bug; the connection ends. Raises ConnectionError where an answer
        is under way already (aiohttp).
        """
        problem = of_failure(exc)
        if problem is BUG:
            log.error("http_request_failed", error=repr(exc), exc_info=exc)
        self._common.refused(problem.reason)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already")
        answer = NATIVE.refused(problem)
        answer.force_close()
        answer.headers["Connection"] = "close"  # aiohttp answers what is no request as HTTP/1.0, which need not say so
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what escapes aiohttp itself, on the way to a close."""
        log.error("http_connection_failed", error=repr(kw.get("exc_info")))
