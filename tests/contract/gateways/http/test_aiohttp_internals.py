"""What the HTTP gateway leans on inside aiohttp: names of its connection, and what they say at each step."""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web_protocol import RequestHandler

from app.gateways.http.connection import ConnectionBounds
from app.gateways.http.connections import HttpServer
from app.gateways.http.problem import FIELD_BYTES, TARGET_BYTES
from app.gateways.http.ready_answer import ReadyAnswer
from app.gateways.listener import Listener
from app.runtime.listen import listen

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


def test_the_names_are_there() -> None:
    names = {"_waiter", "_messages", "_current_request", "_request_in_progress", "_close", "_force_close"}
    assert names | {"_next_keepalive_close_time"} <= set(RequestHandler.__slots__)
    assert "_process_keepalive" in vars(RequestHandler)
    assert "_loop" in BaseProtocol.__slots__
    wanted = {"keepalive_timeout", "max_line_size", "max_field_size", "max_headers", "lingering_time", "access_log"}
    assert wanted | {"auto_decompress"} <= set(inspect.signature(RequestHandler.__init__).parameters)
    assert list(inspect.signature(RequestHandler.handle_error).parameters) == [
        "self", "request", "status", "exc", "message"
    ]  # fmt: skip
    assert TARGET_BYTES != FIELD_BYTES, "an error of aiohttp says which limit it was by its number alone"


def test_an_answer_is_asked_for_no_more_than_it_has() -> None:
    """ReadyAnswer leaves out the base class's own __init__: aiohttp asks it for these three and nothing else."""
    source = inspect.getsource(RequestHandler.finish_response) + inspect.getsource(RequestHandler.start)
    used = {name for name in dir(web.StreamResponse) if re.search(rf"\bresp\.{name}\b", source)}
    assert used == {"prepare", "write_eof", "keep_alive"}
    assert {"prepare", "write_eof"} <= set(vars(ReadyAnswer))


class Steps:
    """A server that shows what its only connection looks like from within."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.go = asyncio.Event()
        self.bodies: list[bytes | BaseException] = []
        self.server = HttpServer(self.handle, ConnectionBounds(5.0, 5.0, 5.0), self.refused.append)
        self._listener = Listener(self.server.connect, (5, 5), None, 5.0, b"", self.refused.append)
        sockets = listen("127.0.0.1", 0, "HTTP", "IOT_HTTP")
        self.port = sockets[0].getsockname()[1]
        self._listener.start(sockets)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        await self.go.wait()
        try:
            self.bodies.append(await request.content.read())
        except web.RequestPayloadError as error:
            self.bodies.append(error)
        return web.Response()

    @property
    def connection(self) -> Any:
        (found,) = self.server.connections
        return cast(Any, found)

    async def close(self) -> None:
        self._listener.stop()
        await self.server.stop(1.0)


@pytest.fixture
async def steps() -> AsyncIterator[Steps]:
    made = Steps()
    yield made
    await made.close()


async def test_what_the_names_say_at_each_step(steps: Steps) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", steps.port)

    async def send(data: bytes) -> tuple[bool, bool, bool]:
        """Whether it awaits a head, has a request under way, and has one more that came whole."""
        writer.write(data)
        await asyncio.sleep(0.05)
        inside = steps.connection
        waits = inside._waiter is not None and not inside._waiter.done()
        return waits, inside._request_in_progress, bool(inside._messages)

    assert await send(b"") == (True, False, False)
    assert await send(REQUEST[:20]) == (True, False, False)
    assert await send(REQUEST[20:]) == (False, True, False), "a head is enough"
    assert await send(b"body" + REQUEST + b"body") == (False, True, True)
    assert steps.connection._current_request is not None
    steps.go.set()
    assert await send(b"") == (True, False, False)
    assert steps.bodies == [b"body", b"body"]
    assert steps.connection._current_request is None
    assert (await reader.read(65536)).count(b"200 OK") == 2
    writer.close()


async def test_garbage_in_a_body_is_a_message_without_headers_behind_it(steps: Steps) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", steps.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    await asyncio.sleep(0.05)
    assert not steps.connection.broken
    writer.write(b"zz\r\n")
    await asyncio.sleep(0.05)
    assert steps.connection.broken
    steps.go.set()
    assert (await reader.read()).count(b"HTTP/1.1 ") == 1, "the handler's answer alone, and then the end"
    assert isinstance(steps.bodies[0], web.RequestPayloadError)
    writer.close()
