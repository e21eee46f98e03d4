"""Misbehaving clients of a gateway, as in every network: slow clients and half-open connections."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from app.local.servers.common import LOOPBACK
from tools.faults.ways.links import GONE
from tools.faults.ways.setup import Door

CROWD = 100  # concurrent clients
DRIP = 0.5  # seconds between two bytes
Undo = Callable[[], Awaitable[None]]

HEAD = b"POST /v1/events HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100000\r\n"
LOGIN = b'{"user": "somebody", "password": "'
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # for gRPC: the preface without the settings that must follow
QUIC = b"\xc3\x00\x00\x00\x01\x08" + b"\x01" * 8 + b"\x08" + b"\x02" * 8 + b"\x00\x44\xd0" + b"\x00" * 1200
BEGINNINGS = {"http": HEAD, "tcp": LOGIN, "grpc": HTTP2, "quic": QUIC}


async def slow_clients(way: str, door: Door) -> Undo:
    """CROWD clients that send the start of a request byte by byte, and never its end."""
    return _crowd(lambda: _drip(way, door))


async def half_open_clients(way: str, door: Door) -> Undo:
    """CROWD clients that send the start of a request and then neither send nor close."""
    return _crowd(lambda: _stay(way, door))


def _crowd(one: Callable[[], Awaitable[None]]) -> Undo:
    async def again() -> None:
        while True:
            with contextlib.suppress(*GONE):
                await one()
            await asyncio.sleep(DRIP)

    tasks = [asyncio.create_task(again()) for _ in range(CROWD)]

    async def undo() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return undo


async def _drip(way: str, door: Door) -> None:
    if way == "quic":
        return await _datagrams(door)
    _, writer = await _connect(way, door)
    try:
        for byte in BEGINNINGS[way] + b" " * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(DRIP)
    finally:
        writer.close()


async def _stay(way: str, door: Door) -> None:
    if way == "quic":
        return await _datagrams(door)
    reader, writer = await _connect(way, door)
    try:
        writer.write(BEGINNINGS[way])
        await writer.drain()
        await reader.read()  # until the gateway closes
    finally:
        writer.transport.abort()


async def _connect(way: str, door: Door) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if way == "grpc":
        return await asyncio.open_unix_connection(str(door.grpc_socket))
    return await asyncio.open_connection(LOOPBACK, door.http_port if way == "http" else door.tcp_port)


async def _datagrams(door: Door) -> None:
    """Send the first packets of handshakes that never continue."""
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for number in range(256):
            with contextlib.suppress(BlockingIOError):
                sender.sendto(QUIC[:6] + bytes([number]) + QUIC[7:], (LOOPBACK, door.quic_port))
            await asyncio.sleep(DRIP)
