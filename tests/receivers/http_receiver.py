"""A receiver of the sink http_feed."""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Item = dict[str, Any]


@dataclass
class Answer:
    """The outcome of one request."""

    status: int = 204
    body: Any = None  # JSON, unless a str
    headers: Mapping[str, str] = field(default_factory=dict)
    taken: bool | None = None  # None: by the status
    seconds: float = 0.0  # before the answer
    cut: bool = False  # the connection is closed instead of an answer


@dataclass
class HttpReceiver:
    """`script` has the outcomes of the next requests; then `judge` decides, and by default a request is taken."""

    script: deque[Answer] = field(default_factory=deque)
    judge: Callable[[Sequence[Item]], Answer | None] = lambda items: None
    taken: list[Item] = field(default_factory=list)  # in the order they were taken, repeats too
    sizes: list[int] = field(default_factory=list)  # number of items of each request
    names: list[str] = field(default_factory=list)  # their Idempotency-Keys
    bodies: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    at_once: int = 0  # most concurrent requests
    heads: int = 0
    tls: ssl.SSLContext | None = None
    port: int = 0
    path: str = "/predictive/ingest"
    head: int = 405  # the status for HEAD

    def __post_init__(self) -> None:
        self._runner: web.AppRunner | None = None
        self._under_way = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{self.path}"

    async def start(self) -> None:
        """Listen, on the same port after a restart."""
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post(self.path, self._post)
        app.router.add_route("HEAD", self.path, self._head)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Break all connections."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def _head(self, request: web.Request) -> web.Response:
        self.heads += 1
        return web.Response(status=self.head)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)
        try:
            return await self._answered(request, await request.read())
        finally:
            self._under_way -= 1

    async def _answered(self, request: web.Request, body: bytes) -> web.StreamResponse:
        # aiohttp has decompressed a gzip body.
        items = items_of(request.content_type, body)
        self.bodies.append(body)
        self.sizes.append(len(items))
        self.headers.append(dict(request.headers))
        self.names.append(request.headers["Idempotency-Key"])
        answer = self.script.popleft() if self.script else self.judge(items) or Answer()
        if answer.taken if answer.taken is not None else answer.status < 300:
            self.taken += items
        if answer.seconds:
            await asyncio.sleep(answer.seconds)
        if answer.cut:
            assert request.transport
            request.transport.abort()
        if isinstance(answer.body, str):
            return web.Response(status=answer.status, text=answer.body, headers=answer.headers)
        if answer.body is not None:
            return web.json_response(answer.body, status=answer.status, headers=answer.headers)
        return web.Response(status=answer.status, headers=answer.headers)


def items_of(content_type: str, body: bytes) -> list[Item]:
    """The objects of a body."""
    if content_type == "application/x-ndjson":
        return [json.loads(line) for line in body.splitlines()]
    found: list[Item] = json.loads(body)
    return found


@asynccontextmanager
async def http_receiver(**how: Any) -> AsyncIterator[HttpReceiver]:
    """A running receiver."""
    made = HttpReceiver(**how)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
