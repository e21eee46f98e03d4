"""One HTTP connection, of aiohttp's, with what aiohttp leaves open: time for a head, for a request, and clear refusals.

It leans on private parts of aiohttp's RequestHandler (`_waiter`, `_messages`, `_current_request`,
`_request_in_progress`), which tests/contract/gateways/test_aiohttp_internals.py watches; no other file does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from msgspec import Struct

from app.gateways.http.problem import NATIVE, Problem, whole
from app.gateways.listener import Seat
from app.ports import Account
from app.runtime.interrupt import set_within

log = structlog.get_logger()

# nginx and Apache take 8 kB a line; the two numbers differ so that an error shows which of them sent it.
TARGET_BYTES, FIELD_BYTES = 8190, 8192
FIELDS = 64  # a browser sends 15, a proxy adds 5
HEAD_BYTES = 64 << 10  # of one head that is not there whole: what a connection may make this process keep
CLOSE_SECONDS = 0.5  # at the end, for the last answers to go out
LINGER_SECONDS = 2.0  # to read what comes behind a request that is refused, so that its sender sees why

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ConnectionBounds(Struct, frozen=True):
    """How long a connection may take, in seconds."""

    head: float  # from its first byte, or from the start of the connection, to the end of a request's head
    idle: float  # between two requests
    request: float  # from a head to the last byte of the answer


class HttpServer(web.Server):
    """Makes connections, ends those that take too long, and all of them at last."""

    def __init__(self, handler: Handler, bounds: ConnectionBounds, refused: Callable[[str], None]) -> None:
        """`refused` is called with the reason of bytes that were no request, or never became a request."""
        super().__init__(self._handle)
        self.bounds, self.refused, self._handler = bounds, refused, handler
        self._under_way = 0
        self._quiet: asyncio.Event | None = None  # set once nothing is under way, from the stop on

    def connect(self, seat: Seat) -> "HttpConnection":
        """The protocol of a connection that was accepted; it gives `seat` back at its end."""
        return HttpConnection(self, seat, self._loop)

    def sweep(self) -> None:
        """End what takes too long; to be called about once a second."""
        now = self._loop.time()
        for connection in self._open():
            connection.check(now)

    def make_room(self) -> bool:
        """End the connection that has asked for nothing for the longest; whether there was one.

        So those that only hold their places lose them to whoever has something to say.
        """
        idle = [connection for connection in self._open() if connection.idle and connection.transport is not None]
        if not idle:
            return False
        min(idle, key=lambda one: one.began).force_close()
        self.refused("made_room")
        return True

    async def stop(self, seconds: float) -> None:
        """Close what is idle, let requests under way be answered for at most so many seconds, close the rest.

        aiohttp's own `shutdown` alone would take no more of a body that is on its way.
        """
        self._quiet = asyncio.Event()
        for connection in self._open():
            if connection.idle:
                connection.close()
        if self._under_way:
            await set_within(self._quiet, seconds)
        await self.shutdown(CLOSE_SECONDS)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        cast(HttpConnection, request.protocol).began = self._loop.time()
        self._under_way += 1
        try:
            answer = await self._handler(request)
        finally:
            self._under_way -= 1
            if self._quiet is not None and not self._under_way:
                self._quiet.set()
        if self._quiet is not None:
            answer.force_close()
        return answer

    def _open(self) -> "list[HttpConnection]":
        return [connection for connection in self.connections if isinstance(connection, HttpConnection)]


class HttpConnection(web.RequestHandler):
    """A connection of one peer."""

    __slots__ = ("_bounds", "_head_bytes", "_head_since", "_refused", "_seat", "began", "known")

    def __init__(self, server: HttpServer, seat: Seat, loop: asyncio.AbstractEventLoop) -> None:
        options: dict[str, Any] = {"access_log": None}  # a query may have a password in it
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=server.bounds.idle,
            max_line_size=TARGET_BYTES,
            max_field_size=FIELD_BYTES,
            max_headers=FIELDS,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
            **options,
        )
        self._seat, self._bounds, self._refused = seat, server.bounds, server.refused
        self._head_since: float | None = None  # since when a head is awaited that has to come
        self._head_bytes = 0
        self.began = loop.time()  # when the last request began, or the connection
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
        return not self._request_in_progress and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Expect a first head (asyncio.Protocol)."""
        super().connection_made(transport)
        self._head_since = self._loop.time()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the seat back (asyncio.Protocol)."""
        self._seat.free()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Note whether a head has come whole, as far as it must (asyncio.Protocol)."""
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
            self._end(_TOO_LARGE)

    def check(self, now: float) -> None:
        """End the connection if its head, or its request, takes too long; `now` is of the loop's clock."""
        if self._head_since is not None and now - self._head_since > self._bounds.head:
            self._end(_SLOW_HEAD if self._head_bytes else None)
        elif self._request_in_progress and now - self.began > self._bounds.request and self.transport is not None:
            self._refused("slow_reader")
            self.transport.abort()

    def _end(self, problem: Problem | None) -> None:
        """Answer with the reason, if the client sent anything, and close."""
        if problem is not None:
            self._refused(problem.reason)
            if self.transport is not None:
                self.transport.write(whole(problem))
        self.force_close()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what is no request, and to a bug; the connection ends. Raises ConnectionError where an answer
        is under way already (aiohttp).
        """
        if isinstance(exc, HttpProcessingError):
            problem = _malformed(exc)
        elif isinstance(exc, ConnectionError):
            problem = _GONE
        else:
            log.error("http_request_failed", error=repr(exc), exc_info=exc)
            problem = _BUG
        self._refused(problem.reason)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already")
        answer = NATIVE.refused(problem)
        answer.force_close()
        answer.headers["Connection"] = "close"  # aiohttp answers what is no request as HTTP/1.0, which need not say so
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what escapes aiohttp itself, on the way to a close."""
        log.error("http_connection_failed", error=repr(kw.get("exc_info")))


def _malformed(error: HttpProcessingError) -> Problem:
    if isinstance(error, LineTooLong):
        if error.args[1] == TARGET_BYTES:
            detail = f"the target of the request is longer than {TARGET_BYTES} bytes"
            return Problem(HTTPStatus.REQUEST_URI_TOO_LONG, "target_too_long", detail)
        return _TOO_LARGE
    if error.message.startswith("Too many headers"):
        return _TOO_LARGE
    first = error.message.partition("\n")[0].rstrip(":")
    return Problem(HTTPStatus.BAD_REQUEST, "bad_request", f"the bytes are no request of HTTP/1.1: {first[:100]}")


_TOO_LARGE = Problem(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers_too_large",
    f"at most {FIELDS} header fields of {FIELD_BYTES} bytes each, {HEAD_BYTES} in all, are taken",
)
_SLOW_HEAD = Problem(HTTPStatus.REQUEST_TIMEOUT, "slow_head", "the head of the request took too long")
_GONE = Problem(HTTPStatus.BAD_REQUEST, "gone", "the client went away")
_BUG = Problem(
    HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "the gateway failed at this request; the gateway's log says why"
)
