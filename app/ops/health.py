"""/metrics, /health, /live and /ready over HTTP: in, three questions; out, 200 or 503 with the reasons as JSON.

A client may try to hold the port: so a connection is for one request, whose head comes whole within
HEAD_SECONDS, and there are CONNECTIONS at most. With one more, the oldest connection that has not asked yet is dropped:
a probe asks at once, and is answered however many half requests there are.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from app.ops.about import About, Check
from app.ops.http_messages import HEAD_BYTES, Request, Response, parse, written, wrong
from app.ops.metrics_page import metrics_page
from app.runtime.listen import listen

CONNECTIONS = 64  # of 1,024 files that a process may have open by default
HEAD_SECONDS = 5.0
ANSWER_SECONDS = 10.0  # to take the answer: the metrics of a worker are 50 kB
CLOSE_SECONDS = 1.0  # for requests under way at the end

Page = Callable[[Request], Awaitable[Response]]
Advice = Callable[[], Mapping[str, str]]


class HealthServer:
    """Serves on `host:port` until stopped; port 0 takes a free one, then found in `port`."""

    def __init__(
        self,
        host: str,
        port: int,
        live: Check,
        ready: Check,
        advice: Advice = dict,
        about: About | None = None,
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        """`live` and `ready` are the checks of /live and /ready: 200 when all are true, else 503. `advice` is shown
        with /ready: {what is held up: why, and what an operator does about it}. `about` None: there is no /health.

        `refresh` is called before metrics are shown, for what is only worth finding out then.
        """
        self._host, self.port = host, port
        self._pages: dict[str, Page] = {
            "/metrics": _metrics(refresh),
            "/live": _answer(live),
            "/ready": _answer(ready, advice),
        }
        if about is not None:
            self._pages["/health"] = _health(about)
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._asking: dict[asyncio.StreamWriter, None] = {}  # their heads are not there yet; the oldest first
        self._answering: dict[asyncio.StreamWriter, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def bind(self) -> None:
        """Take the port, ahead of `start`; clients wait until then. Raises MachineError when the port is taken."""
        if not self._sockets:
            self._sockets = listen(self._host, self.port, "/metrics", "IOT_METRICS")
            self.port = self._sockets[0].getsockname()[1]

    async def start(self) -> None:
        """Serve, and return at once. Raises MachineError when the port is taken."""
        self.bind()
        for one in self._sockets:
            self._servers.append(await asyncio.start_server(self._serve, sock=one, limit=HEAD_BYTES))

    async def stop(self) -> None:
        """Close the port at once; answers under way have CLOSE_SECONDS, and are then cut. Safe before start
        and twice.
        """
        for server in self._servers:
            server.close()
        for one in self._sockets:
            one.close()
        for writer in self._asking:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for writer in self._answering:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        self._servers.clear()
        self._sockets.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._make_room()
        self._asking[writer] = None
        try:
            answer, request = await self._asked(reader)
            self._asking.pop(writer, None)
            self._answering[writer] = None
            async with asyncio.timeout(ANSWER_SECONDS):
                if answer is None and request is not None:
                    answer = await self._answer(request)
                if answer is not None:
                    writer.write(written(answer, request))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # the client went away, or takes its time
        finally:
            self._asking.pop(writer, None)
            self._answering.pop(writer, None)
            writer.transport.abort()

    def _make_room(self) -> None:
        """Drop the oldest connection that has not asked yet; where all have, the connection longest in its answer."""
        if len(self._asking) + len(self._answering) >= CONNECTIONS:
            among = self._asking or self._answering
            oldest = next(iter(among))
            del among[oldest]
            oldest.transport.abort()

    @staticmethod
    async def _asked(reader: asyncio.StreamReader) -> tuple[Response | None, Request | None]:
        """The request, or the answer to a malformed request; neither when no request came."""
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return wrong(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), None
        except (asyncio.IncompleteReadError, TimeoutError):
            return None, None
        request = parse(head)
        return (None, request) if request else (wrong(HTTPStatus.BAD_REQUEST), None)

    async def _answer(self, request: Request) -> Response:
        page = self._pages.get(request.path)
        if page is None:
            return wrong(HTTPStatus.NOT_FOUND)
        if request.method not in ("GET", "HEAD"):
            return wrong(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET, HEAD")
        return await page(request)


def _metrics(refresh: Callable[[], None]) -> Page:
    async def page(request: Request) -> Response:
        refresh()
        await asyncio.sleep(0)
        return await metrics_page(request)

    return page


def _health(about: About) -> Page:
    async def page(_: Request) -> Response:
        return Response(HTTPStatus.OK, json.dumps(await about.health()).encode(), "application/json")

    return page


def _answer(check: Check, advice: Advice = dict) -> Page:
    async def page(_: Request) -> Response:
        checks = dict(await check())
        well = all(checks.values())
        answer: dict[str, object] = {"status": "ok" if well else "not ready", "checks": checks}
        if what := advice():
            answer["advice"] = dict(what)
        status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
        return Response(status, json.dumps(answer).encode(), "application/json")

    return page
