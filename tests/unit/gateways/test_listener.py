"""Connections are counted before they say anything: in all, of each peer, and through handshakes that never end."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from app.gateways.listener import LINGERING, Listener, Seat
from app.runtime.listen import listen
from app.runtime.tls import server_context
from tests.waiting import until

FULL = b"there is no room\n"


class Echo(asyncio.Protocol):
    """Sends its peer's address, and what it receives."""

    def __init__(self, seat: Seat) -> None:
        self._place = seat

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._place.peer.encode() + b"\n")

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._place.free()
        self._place.free()  # once is enough, and twice is no harm


class Open:
    """A listener, its port, and why connections did not come in."""

    def __init__(self, most: tuple[int, int], tls: ssl.SSLContext | None, seconds: float) -> None:
        self.refused: list[str] = []
        self.listener = Listener(Echo, most, tls, seconds, FULL, self.refused.append)
        sockets = listen("127.0.0.1", 0, "echo", "IOT_ECHO")
        self.port = sockets[0].getsockname()[1]
        self.listener.start(sockets)

    async def connect(self, tls: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = "127.0.0.1" if tls else None
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=tls, server_hostname=name)

    async def open_are(self, count: int) -> None:
        await until(lambda: self.listener.open == count)


@asynccontextmanager
async def opened(
    most: tuple[int, int] = (10, 10), tls: ssl.SSLContext | None = None, seconds: float = 5.0
) -> AsyncIterator[Open]:
    made = Open(most, tls, seconds)
    try:
        yield made
    finally:
        made.listener.stop()
        made.listener.stop()


@pytest.mark.parametrize("most", [(2, 10), (10, 2)])
async def test_one_more_than_there_may_be_is_refused_and_closed_until_one_leaves(most: tuple[int, int]) -> None:
    async with opened(most) as here:
        first, second = await here.connect(), await here.connect()
        assert await first[0].readline() == await second[0].readline() == b"127.0.0.1\n"
        third = await here.connect()
        assert await third[0].read() == FULL
        assert here.refused == ["too_many_connections"]
        first[1].close()
        await here.open_are(1)
        fourth = await here.connect()
        assert await fourth[0].readline() == b"127.0.0.1\n"
        for _, writer in (second, third, fourth):
            writer.close()
        await here.open_are(0)


async def test_whoever_finds_no_room_hears_it_though_he_speaks_first() -> None:
    """As a client of HTTP does it: head, body, and only then it reads."""
    async with opened((0, 0)) as here:
        client = socket.create_connection(("127.0.0.1", here.port))
        with client:
            client.setblocking(False)
            await until(lambda: here.refused == ["too_many_connections"])
            for part in (b"head", b"body", b"more"):
                client.send(part)
                await asyncio.sleep(0.01)
            assert await asyncio.get_running_loop().sock_recv(client, 100) == FULL


async def test_who_is_refused_for_lack_of_room_costs_no_more_than_a_bound() -> None:
    async with opened((0, 0)) as here:
        clients = [await here.connect() for _ in range(LINGERING + 5)]
        await until(lambda: len(here.refused) == LINGERING + 5)
        assert len(here.listener._refused_sockets) == LINGERING
        for reader, writer in clients:
            assert await reader.read() == FULL
            writer.close()


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server that wants certificates of clients, and of a client without one."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    server = server_context(tmp_path / "server.pem", None, tmp_path / "ca.pem")
    return server, ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))


async def test_handshakes_that_never_end_take_places_and_lose_them(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async with opened((5, 2), contexts[0], seconds=0.5) as here:
        silent = [await here.connect() for _ in range(2)]
        await here.open_are(2)
        third = await here.connect()
        assert await third[0].read() == b"", "no text where TLS is awaited"
        assert here.refused == ["too_many_connections"]
        await here.open_are(0)
        assert here.refused[1:] == ["bad_handshake"] * 2
        for _, writer in (*silent, third):
            writer.close()


async def test_the_handshake_that_has_taken_the_longest_makes_room(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async with opened((2, 10), contexts[0], seconds=30.0) as here:
        first = await here.connect()
        await here.open_are(1)
        second = await here.connect()
        await here.open_are(2)
        third = await here.connect()
        assert await asyncio.wait_for(first[0].read(), 5.0) == b""
        assert here.refused == ["bad_handshake"]
        await here.open_are(2)
        for _, writer in (first, second, third):
            writer.close()
        await here.open_are(0)


async def test_no_certificate_and_no_tls_are_distinguished(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, client = contexts
    async with opened((2, 2), server) as here:
        reader, writer = await here.connect(client)  # with TLS 1.3 the client is through before it is refused
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            assert await reader.read() == b""
        writer.close()
        await here.open_are(0)
        _, writer = await here.connect()
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: len(here.refused) == 2)
        writer.close()
        assert here.refused == ["bad_certificate", "bad_handshake"]
        await here.open_are(0)
