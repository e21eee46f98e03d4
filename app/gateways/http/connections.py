"""All HTTP connections of one gateway: made, ended where they take too long, and all at last."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web

from app.gateways.http.connection import Common, ConnectionBounds, HttpConnection, Repeat
from app.gateways.listener import Seat
from app.runtime.interrupt import set_within

CLOSE_SECONDS = 0.5  # at the end, for the last answers to go out

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpServer(web.Server):
    """Makes connections, ends those that take too long, and all of them at last."""

    def __init__(
        self, handler: Handler, bounds: ConnectionBounds, refused: Callable[[str], None], repeat: Repeat | None = None
    ) -> None:
        """`refused` is called with the reason of bytes that were no request, or never became a request; `repeat` with
        a request whose head is known, and calls `answer`.
        """
        super().__init__(self._handle)
        self._handler, self._common = handler, Common(bounds, refused, repeat)

    def connect(self, seat: Seat) -> HttpConnection:
        """The protocol of a connection that was accepted; it gives `seat` back at its end."""
        return HttpConnection(self, self._common, seat, self._loop)

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
        self._common.refused("made_room")
        return True

    async def stop(self, seconds: float) -> None:
        """Close what is idle, let requests under way be answered for at most so many seconds, close the rest.

        aiohttp's own `shutdown` alone would take no more of a body that is on its way.
        """
        quiet = self._common.quiet = asyncio.Event()
        for connection in self._open():
            if connection.idle:
                connection.close()
        if self._common.under_way:
            await set_within(quiet, seconds)
        await self.shutdown(CLOSE_SECONDS)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        cast(HttpConnection, request.protocol).began = self._loop.time()
        self._common.under_way += 1
        try:
            answer = await self._handler(request)
        finally:
            self._common.ended()
        if self._common.quiet is not None:
            answer.force_close()
        return answer

    def _open(self) -> list[HttpConnection]:
        return [connection for connection in self.connections if isinstance(connection, HttpConnection)]
