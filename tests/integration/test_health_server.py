"""The HTTP port of every program against its abusers: half requests, silence, much at once, and no reading."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest

from app.ops import health
from app.ops.about import About
from app.ops.health import CONNECTIONS, HealthServer
from app.ops.http_messages import Request, Response
from app.runtime.flushes import Flushes
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site, until


async def yes() -> Mapping[str, bool]:
    return {"running": True}


async def no() -> Mapping[str, bool]:
    return {"running": True, "database": False}


@asynccontextmanager
async def served() -> AsyncIterator[HealthServer]:
    """A server that is live and not ready."""
    about = About("worker", "worker", no, lambda: 0, Flushes())
    server = HealthServer("127.0.0.1", 0, yes, no, lambda: {"writes": "wait"}, about)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        await server.stop()


async def said(port: int, data: bytes) -> bytes:
    """What the server answers to these bytes, until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def held_open(stack: ExitStack, port: int, data: bytes) -> socket.socket:
    """A connection that says this much and waits."""
    made = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    made.sendall(data)
    made.setblocking(False)
    return made


def closed(made: socket.socket) -> bool:
    """Whether the other side has ended it."""
    try:
        return made.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def test_its_pages() -> None:
    async with served() as server, aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        async with session.get("/live?probe=1") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "ok", "checks": {"running": True}})
        async with session.get("/ready") as answer:
            reported = await answer.json()
            assert (answer.status, reported["status"], reported["advice"]) == (503, "not ready", {"writes": "wait"})
            assert answer.content_type == "application/json"
        async with session.get("/metrics") as answer:
            assert "process_open_fds" in await answer.text()
            assert answer.headers["Content-Type"].startswith("text/plain")
            assert "Vary" in answer.headers
        asked = {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"}
        async with session.get("/metrics", headers=asked) as answer:
            assert (await answer.text()).endswith("# EOF\n")
            assert answer.headers["Content-Encoding"] == "gzip"
        async with session.get("/health") as answer:
            assert (answer.status, answer.content_type) == (200, "application/json")
            reported = await answer.json()
            assert (reported["status"], reported["database"], reported["mqtt"]) == ("not ready", False, None)
        async with session.head("/live") as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        for path in ("/", "/../../etc/passwd", "/live/"):
            async with session.get(path) as answer:
                assert answer.status == 404
        async with session.post("/live", data=b"x") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"GET /live HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK"),
        (b"GET /live HTTP/1.1\r\nHost: x\r\n\r\nGET /live HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"GET /" + b"a" * 7000 + b" HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found"),
        (b"\x16\x03\x01 hello\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"GET  /live HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"GET /live HTTP/2\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"", b""),
    ],
)
async def test_what_is_no_request(sent: bytes, answer: bytes) -> None:
    async with served() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        writer.write_eof()
        got = await asyncio.wait_for(reader.read(), 20)
        assert got.partition(b"\r\n")[0] == answer
        writer.close()
        await writer.wait_closed()


async def test_a_head_without_end_is_not_kept() -> None:
    async with served() as server:
        for head in (b"GET /" + b"a" * 200_000, b"GET /live HTTP/1.1\r\n" + b"X: 1\r\n" * 50_000):
            assert b" 200 " not in await said(server.port, head)


async def test_half_requests_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "HEAD_SECONDS", 0.2)
    async with served() as server:
        assert await said(server.port, b"GET /live HTTP/1.1\r\nX-") == b""
        assert await said(server.port, b"") == b""


async def test_a_probe_is_answered_beside_any_number_of_half_requests() -> None:
    with ExitStack() as stack:
        async with served() as server:
            held = []
            for _ in range(300):
                held.append(held_open(stack, server.port, b"GET /live HTTP/1.1\r\nX-"))
                await asyncio.sleep(0)
            assert (await said(server.port, b"GET /live HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")
            ended = [made for made in held if closed(made)]
            assert len(ended) > len(held) - CONNECTIONS, "the oldest connections are dropped for new ones"
            assert held[-1] not in ended


async def test_those_who_do_not_read_hold_no_more_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Response(HTTPStatus.OK, b"x" * (32 << 20))

    async def large(request: Request) -> Response:
        return page

    monkeypatch.setattr(health, "metrics_page", large)
    with ExitStack() as stack:
        async with served() as server:
            for _ in range(CONNECTIONS + 20):
                held_open(stack, server.port, b"GET /metrics HTTP/1.1\r\n\r\n")
                await asyncio.sleep(0)
            assert (await said(server.port, b"GET /live HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.integration
async def test_a_program_goes_on_while_its_port_is_held(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    """The files of the process stay few, so that connections that were cut can be made again."""
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"kafka_partitions": 1})
    await site.prepare([])
    with site.program("notifier") as notifier:
        await notifier.ready()
        port = notifier.events("notifier_started")[-1]["metrics_port"]
        with ExitStack() as stack:
            for _ in range(500):
                held_open(stack, port, b"GET /ready HTTP/1.1\r\nX-")
            assert (await notifier.get("/live"))[0] == 200
            assert len(os.listdir(f"/proc/{notifier.pid}/fd")) < CONNECTIONS + 100
            await site.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name = $2",
                unique,
                site.settings.notifier_client_id,
            )

            async def ready() -> bool:
                return (await notifier.get("/ready"))[0] == 200

            await until(ready, 40, notifier.tail)
        assert notifier.stop() < 10
