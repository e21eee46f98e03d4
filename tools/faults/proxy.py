"""A TCP proxy on the loopback address between a program and a server, with faults of a network."""

import asyncio
import contextlib
import socket
import struct
import time

from app.local.servers.common import LOOPBACK, free_port

CHUNK = 65536
AHEAD = 32  # chunks in flight in one direction
RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time

Chunk = tuple[float, bytes]  # (time of delivery on time.monotonic, bytes); no bytes: the sender has closed


class Proxy:
    """Passes bytes between its own port and `target`, unless a fault stops them; `heal` ends all faults.

    A stopped proxy loses no bytes: the transfer continues at the same byte, as TCP does after an outage of a
    network. Ends of connections pass, or wait, like bytes.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.target = 0
        self.latency = 0.0  # seconds, each way
        self._up, self._down = asyncio.Event(), asyncio.Event()  # client to server and back: bytes pass
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}
        self._open_gates()

    def _open_gates(self) -> None:
        self._up.set()
        self._down.set()

    async def start(self) -> None:
        """Start to listen; the port stays the same over cuts."""
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)

    async def stop(self) -> None:
        """Close everything."""
        await self.cut()

    # -- the faults

    async def cut(self) -> None:
        """Close all connections and refuse new ones."""
        if self._server:
            self._server.close()
            self._server = None
        await self._end(reset=False)

    async def reset(self) -> None:
        """Send RST to both ends of all connections; new connections are accepted."""
        await self._end(reset=True)

    def stall(self) -> None:
        """Accept connections and pass no bytes."""
        self._up.clear()
        self._down.clear()

    def half_open(self, *, up: bool) -> None:
        """Pass no bytes to the server (`up`), or no bytes from the server."""
        (self._up if up else self._down).clear()

    def delay(self, seconds: float) -> None:
        """Delay bytes by `seconds` in each direction; the bytes in flight stay limited."""
        self.latency = seconds

    async def heal(self) -> None:
        """End every fault."""
        self.latency = 0.0
        self._open_gates()
        if self._server is None:
            await self.start()

    async def _end(self, *, reset: bool) -> None:
        links = dict(self._links)
        for task, writers in links.items():
            task.cancel()
            for writer in writers:
                if reset:
                    sock: socket.socket = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
                    writer.transport.abort()
        await asyncio.gather(*links, return_exceptions=True)

    # -- the bytes

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._links[task] = (writer,)
        try:
            await self._link(task, reader, writer)
        except (OSError, asyncio.CancelledError):
            return  # an end has closed, or a fault has closed the connection
        finally:
            ends = self._links.pop(task)
            for one in ends:  # close all ends before the first wait, which may be cancelled
                one.close()
            for one in ends:
                with contextlib.suppress(OSError):
                    await one.wait_closed()

    async def _link(self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self.target)
        self._links[task] = (writer, server_writer)
        ways = (self._way(reader, server_writer, self._up), self._way(server_reader, writer, self._down))
        pumps = [asyncio.ensure_future(way) for way in ways]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        """Pass one direction of a connection; returns when the end of the stream has passed."""
        ahead: asyncio.Queue[Chunk] = asyncio.Queue(AHEAD)
        take = asyncio.ensure_future(self._take(reader, ahead))
        try:
            while True:
                due, data = await ahead.get()
                if (left := due - time.monotonic()) > 0:
                    await asyncio.sleep(left)
                await gate.wait()
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        finally:
            take.cancel()
            await asyncio.gather(take, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, ahead: asyncio.Queue[Chunk]) -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(CHUNK)
            except OSError:
                data = b""
            await ahead.put((time.monotonic() + self.latency, data))
