"""What comes on a connection that is not as it should be: each is refused with its own answer, in time, and alone."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from app.gateways.http.connection import ConnectionBounds
from app.gateways.http.connections import HttpServer
from app.gateways.listener import Listener
from app.runtime.listen import listen
from tests.unit.gateways.http.gateway import GOOD, TELEMETRY, Serving, serving
from tests.waiting import until

HEAD = (
    b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-of-alice\r\nContent-Type: application/json\r\n"
    % TELEMETRY.encode()
)
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(GOOD), GOOD)
CLOSED = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(GOOD), GOOD)


def statuses(raw: bytes) -> list[int]:
    """Of the answers on a connection."""
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3}) ", raw)]


def problem(raw: bytes) -> str:
    """The reason in the last answer, which has to be a problem and to end its connection."""
    head, _, body = raw.rpartition(b"\r\n\r\n")
    assert b"application/problem+json" in head, raw
    assert b"connection: close" in head.lower(), raw
    reason = json.loads(body)["reason"]
    assert isinstance(reason, str)
    return reason


def counted(reason: str) -> float:
    return REGISTRY.get_sample_value("iot_gateway_rejected_total", {"gateway": "http", "reason": reason}) or 0.0


async def test_requests_one_after_another_and_all_at_once_are_answered_in_order() -> None:
    async with serving() as here:
        assert statuses(await here.raw(WHOLE, WHOLE, CLOSED, pause=0.05)) == [200] * 3
        assert statuses(await here.raw(WHOLE * 40 + CLOSED)) == [200] * 41
        assert len(here.writer.records) == 44


async def test_http_1_0_is_answered_and_closed() -> None:
    async with serving() as here:
        found = await here.raw(WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert found.startswith(b"HTTP/1.0 200 OK\r\n")
        assert found.endswith(b'{"accepted":1,"rejected":[]}')


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_request"),  # TLS, to a port without
        (b"POST /live HTTP/1.1\r\n\r\n", 400, "bad_request"),  # no Host
        (b"GET /live HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400, "bad_request"),
        (b"GET /live HTTP/1.1\r\nHost: x\r\nX : a\r\n\r\n", 400, "bad_request"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "target_too_long"),
        (b"GET /live HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET /live HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 1_000_000 + b"\r\n", 431, "headers_too_large"),
        (HEAD + b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_request"),
        (HEAD + b"Content-Length: 10\r\nContent-Length: 11\r\n\r\n0123456789", 400, "bad_request"),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400, "bad_request"),
        (HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n", 400, "bad_request"),
        (HEAD + b"Content-Length: 4294967296\r\n\r\nx", 413, "too_large"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n", 400, "bad_request"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found"),
    ],
)
async def test_what_is_no_request_is_refused_and_the_connection_closed(sent: bytes, status: int, reason: str) -> None:
    async with serving() as here:
        before = counted(reason)
        found = await here.raw(sent, seconds=4.0)
        assert statuses(found)[:1] == [status]
        assert problem(found[: found.find(b"}") + 1]) == reason
        assert counted(reason) == before + 1
        assert statuses(await here.raw(CLOSED)) == [200], "nobody else is any the worse for it"
        assert here.gateway.ready() == {"http": True}


async def test_garbage_in_a_body_that_is_being_read_is_refused_at_once() -> None:
    async with serving() as here:
        found = await here.raw(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{", b"xx\r\nyy\r\n", pause=0.3, seconds=3.0
        )
        assert (statuses(found)[0], problem(found[: found.find(b"}") + 1])) == (400, "bad_body")


async def test_a_head_that_takes_too_long_ends_its_connection() -> None:
    async with serving(gateway_header_seconds=0.5) as here:
        found = await here.raw(*[bytes([byte]) for byte in HEAD[:30]], pause=0.1, seconds=5.0)
        assert (statuses(found), problem(found)) == ([408], "slow_head")
        assert await here.raw(b"", seconds=3.0) == b"", "who says nothing is closed without a word"


async def test_a_head_of_many_pieces_is_bounded_before_it_is_whole() -> None:
    async with serving() as here:
        lines = [b"X-%d: " % number + b"y" * 4000 + b"\r\n" for number in range(40)]
        found = await here.raw(b"GET /live HTTP/1.1\r\nHost: x\r\n", *lines, pause=0.005)
        assert (statuses(found), problem(found)) == ([431], "headers_too_large")


async def test_between_two_requests_a_connection_may_be_idle_for_so_long() -> None:
    async with serving(gateway_idle_seconds=1.0, gateway_header_seconds=60.0) as here:
        began = asyncio.get_running_loop().time()
        assert statuses(await here.raw(WHOLE, seconds=5.0)) == [200]
        assert 0.8 < asyncio.get_running_loop().time() - began < 3.0


async def test_a_body_that_takes_too_long_is_refused() -> None:
    async with serving(http_body_seconds=0.5) as here:
        found = await here.raw(HEAD + b"Content-Length: 100\r\n\r\n{", seconds=6.0)
        assert (statuses(found), problem(found)) == ([408], "slow_body")


async def test_a_body_in_chunks_is_bounded_as_it_comes() -> None:
    async with serving(gateway_body_max_bytes=100_000) as here:
        chunk = b"2000\r\n" + b" " * 0x2000 + b"\r\n"
        found = await here.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 100, b"0\r\n\r\n", pause=0.002)
        assert (statuses(found), problem(found)) == ([413], "too_large")


async def test_who_asks_whether_to_go_on_hears_it_before_he_sends_a_body() -> None:
    async with serving() as here:
        expecting = HEAD.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue\r\nConnection: close")
        reader, writer = await asyncio.open_connection("127.0.0.1", here.gateway.port)
        writer.write(expecting + b"Content-Length: %d\r\n\r\n" % len(GOOD))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(GOOD)
        assert statuses(await reader.read()) == [200]
        writer.close()
        refused = await here.raw(expecting + b"Content-Length: 99999999\r\n\r\n", seconds=5.0)
        assert (statuses(refused), problem(refused)) == ([413], "too_large")
        unknown = expecting.replace(b"of-alice", b"").replace(b"token-", b"wrong")
        assert statuses(await here.raw(unknown + b"Content-Length: 10\r\n\r\n", seconds=5.0)) == [401]


async def test_a_client_that_does_not_read_its_answers_is_cut_off() -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=bytes(1 << 20))

    refused: list[str] = []
    server = HttpServer(handler, ConnectionBounds(head=5.0, idle=5.0, request=0.5), refused.append)
    listener = Listener(server.connect, (5, 5), None, 5.0, b"", refused.append)
    sockets = listen("127.0.0.1", 0, "HTTP", "IOT_HTTP")
    listener.start(sockets)
    _, writer = await asyncio.open_connection(*sockets[0].getsockname(), limit=1024)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 30)
    await asyncio.sleep(0.3)
    server.sweep()
    assert refused == []
    await asyncio.sleep(0.4)
    server.sweep()
    await until(lambda: listener.open == 0)
    assert refused == ["slow_reader"]
    listener.stop()
    await server.stop(1.0)
    writer.close()


@asynccontextmanager
async def connected(here: Serving) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", here.gateway.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_one_connection_more_than_a_peer_may_have_is_asked_to_come_again() -> None:
    async with serving(gateway_connections=4, gateway_peer_connections=2) as here:
        async with connected(here) as (reader, writer), connected(here):
            writer.write(WHOLE)
            await reader.readuntil(b"]}")
            found = await here.raw(b"")
            assert (statuses(found), problem(found)) == ([503], "too_many_connections")
            assert b"Retry-After: 5" in found
        await until(lambda: REGISTRY.get_sample_value("iot_gateway_connections", {"gateway": "http"}) == 0)
        assert statuses(await here.raw(CLOSED)) == [200]


async def test_who_only_holds_a_place_loses_it_to_who_has_something_to_say() -> None:
    async with (
        serving(gateway_connections=3, gateway_peer_connections=10) as here,
        connected(here) as (silent, _),
        connected(here) as (asked, writer),
        connected(here) as (busy, body),
    ):
        writer.write(WHOLE)
        await asked.readuntil(b"]}")
        body.write(HEAD + b"Content-Length: 10\r\n\r\n{")
        await asyncio.sleep(0.1)
        assert statuses(await here.raw(CLOSED)) == [200]
        assert await asyncio.wait_for(silent.read(), 5.0) == b"", "the one that never asked, first"
        async with connected(here), connected(here):
            assert await asyncio.wait_for(asked.read(), 5.0) == b"", "then the one that asked the longest ago"
            body.write(b"}" + b" " * 8)
            assert statuses(await asyncio.wait_for(busy.readuntil(b"}"), 5.0)) == [400], "who is served stays"


async def test_when_all_places_are_busy_one_more_is_asked_to_come_again() -> None:
    async with serving(gateway_connections=2, gateway_peer_connections=10, gateway_account_connections=2) as here:
        here.writer.there.clear()
        busy = [asyncio.create_task(here.raw(CLOSED)) for _ in range(2)]
        await until(lambda: here.intake.queue_depth == 2)
        assert problem(await here.raw(b"")) == "too_many_connections"
        here.writer.there.set()
        assert [statuses(await one) for one in busy] == [[200], [200]]


async def test_slow_bodies_of_one_account_leave_room_for_others() -> None:
    async with serving(gateway_body_max_bytes=10_000, gateway_buffer_bytes=80_000) as here:
        slow = HEAD + b"Content-Length: 9000\r\n\r\n" + b" " * 8000
        waiting = [asyncio.create_task(here.raw(slow, seconds=3.0)) for _ in range(3)]
        await until(lambda: here.accounts.asked == 3)
        await asyncio.sleep(0.1)
        refused = await here.raw(CLOSED, seconds=5.0)
        assert (statuses(refused), problem(refused)) == ([503], "busy")
        other = CLOSED.replace(b"of-alice", b"of-bob").replace(b"users/alice", b"users/bob")
        assert statuses(await here.raw(other)) == [200]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await asyncio.sleep(0.1)
        assert statuses(await here.raw(CLOSED)) == [200]
