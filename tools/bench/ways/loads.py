"""The senders: each sends by one way for some seconds as fast as answers come; out, the number of answered events."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import grpc
from aioquic.asyncio.client import connect
from aioquic.quic.configuration import QuicConfiguration

from app.protobuf.metrics_pb2 import BatchAck, MetricBatch
from tools.bench.ways import events
from tools.faults.ways.setup import Door

if TYPE_CHECKING:
    from grpc.aio import StreamStreamMultiCallable, UnaryUnaryMultiCallable

LOOPBACK = "127.0.0.1"
INGEST = "/iot_stream.ingest.v1.Ingest"
WINDOW = 16  # batches in flight on a connection without waiting for an ack
Load = Callable[[Door, float], Awaitable[int]]


class Request(asyncio.Protocol):
    """A keep-alive connection: sends a request after the answer to the request before."""

    def __init__(self, requests: Iterator[bytes], until: float) -> None:
        self._requests, self._until, self._rest = requests, until, b""
        self.answered, self.done = 0, asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request (asyncio.Protocol)."""
        self._transport: Any = transport
        transport.write(next(self._requests))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Count whole answers and send the next request (asyncio.Protocol)."""
        self._rest += data
        head, found, body = self._rest.partition(b"\r\n\r\n")
        if not found:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(self._rest[:500].decode(errors="replace")))
            self._transport.close()
            return
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < size:
            return
        self._rest = b""
        self.answered += 1
        if time.monotonic() < self._until:
            self._transport.write(next(self._requests))
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the measurement of this connection (asyncio.Protocol)."""
        if not self.done.done():
            self.done.set_result(None)


async def _http(
    door: Door, seconds: float, connections: int, path: str, kind: str, bodies: Sequence[bytes], changing: bool = False
) -> int:
    """Send requests; with `changing`, no two requests have the same head."""
    head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {door.token}\r\nContent-Type: {kind}\r\n"
    given = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    requests: Iterator[bytes] = itertools.cycle(given)
    if changing:
        last = b"\r\nContent-Length"
        requests = (one.replace(last, b"\r\nX-Id: %d%b" % (n, last), 1) for n, one in enumerate(requests))
    until, loop = time.monotonic() + seconds, asyncio.get_running_loop()
    made = [
        (await loop.create_connection(lambda: Request(requests, until), LOOPBACK, door.http_port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(one.done for one in made))
    return sum(one.answered for one in made)


async def http_single(door: Door, seconds: float, changing: bool = False) -> int:
    """One event per request, 64 connections."""
    path = f"/v1/users/{door.user}/devices/d07/telemetry"
    bodies = [line.replace(b'"d%02d"' % (number % 100), b'"d07"') for number, line in
              enumerate(events.lines(door.user, 1000, 0))]  # fmt: skip
    return await _http(door, seconds, 64, path, "application/json", bodies, changing)


async def http_changing(door: Door, seconds: float) -> int:
    """One event per request, 64 connections, and a different number in each head."""
    return await http_single(door, seconds, changing=True)


async def http_lines(door: Door, seconds: float) -> int:
    """NDJSON, 500 events per request, 8 connections."""
    bodies = [b"\n".join(events.lines(door.user, 500, variant)) for variant in range(events.VARIANTS)]
    return 500 * await _http(door, seconds, 8, "/v1/events", "application/x-ndjson", bodies)


async def http_protobuf(door: Door, seconds: float) -> int:
    """EventBatch, 500 events per request, 8 connections."""
    bodies = [events.events(door.user, 500, variant) for variant in range(events.VARIANTS)]
    return 500 * await _http(door, seconds, 8, "/v1/events", "application/x-protobuf", bodies)


async def tcp_lines(door: Door, seconds: float) -> int:
    """JSON lines on one connection, at most WINDOW chunks of 500 without an ack."""
    reader, writer = await asyncio.open_connection(LOOPBACK, door.tcp_port)
    writer.write(json.dumps({"user": door.user, "password": door.password}).encode() + b"\n")
    assert json.loads(await reader.readline()) == {"ok": True}
    chunks = [b"".join([line + b"\n" for line in events.lines(door.user, 500, v)]) for v in range(events.VARIANTS)]
    sent = acked = 0
    until = time.monotonic() + seconds
    for chunk in itertools.cycle(chunks):
        writer.write(chunk)
        sent += 500
        while sent - acked >= WINDOW * 500 or (time.monotonic() > until and acked < sent):
            acked = json.loads(await reader.readline())["acked"]
        if time.monotonic() > until:
            break
    writer.close()
    await writer.wait_closed()
    return acked


async def grpc_unary(door: Door, seconds: float) -> int:
    """PushMetrics, 500 metrics per call, 8 concurrent calls."""
    # A PushMetricsRequest whose field 1 is the batch: its tag and length before it.
    bodies = [_field_1(events.metrics(door.user, 500, variant)) for variant in range(events.VARIANTS)]
    until, source = time.monotonic() + seconds, itertools.cycle(bodies)
    async with grpc.aio.insecure_channel(f"unix:{door.grpc_socket}") as channel:
        call: UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{INGEST}/PushMetrics")

        async def push() -> int:
            count = 0
            while time.monotonic() < until:
                answer = await call(next(source), metadata=door.metadata)
                count += BatchAck.FromString(answer).accepted
            return count

        return sum(await asyncio.gather(*(push() for _ in range(8))))


def _field_1(body: bytes) -> bytes:
    size, varint = len(body), bytearray()
    while size > 127:
        varint.append(size & 127 | 128)
        size >>= 7
    return b"\x0a" + bytes(varint) + bytes([size]) + body


async def grpc_stream(door: Door, seconds: float) -> int:
    """StreamMetrics, 500 metrics per message, one stream, WINDOW messages in flight."""
    bodies = itertools.cycle([events.metrics(door.user, 500, variant) for variant in range(events.VARIANTS)])
    until, count, room = time.monotonic() + seconds, 0, asyncio.Semaphore(WINDOW)
    async with grpc.aio.insecure_channel(f"unix:{door.grpc_socket}") as channel:
        calls: StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"{INGEST}/StreamMetrics")
        call = calls(metadata=door.metadata)

        async def write() -> None:
            while time.monotonic() < until:
                await room.acquire()
                await call.write(next(bodies))
            await call.done_writing()

        writing = asyncio.create_task(write())
        while isinstance(answer := await call.read(), bytes):  # grpc.aio.EOF is no bytes
            count += BatchAck.FromString(answer).accepted
            room.release()
            if writing.done() and room._value >= WINDOW:
                break
        await writing
        return count


def configuration(door: Door) -> QuicConfiguration:
    """The QUIC configuration of a client with a certificate."""
    made = QuicConfiguration(is_client=True, alpn_protocols=["iot-stream/1"], idle_timeout=300.0)
    made.load_verify_locations(cafile=str(door.certificates.ca))
    made.load_cert_chain(str(door.certificates.client), str(door.certificates.client_key))
    return made


def frame(body: bytes) -> bytes:
    """A frame: 4 bytes of length and the body."""
    return len(body).to_bytes(4, "big") + body


async def read_ack(reader: asyncio.StreamReader) -> BatchAck:
    """Read the next answer."""
    size = int.from_bytes(await reader.readexactly(4), "big")
    return BatchAck.FromString(await reader.readexactly(size))


async def quic_frames(door: Door, seconds: float, connections: int = 8) -> int:
    """Batches of 100, 8 connections, 8 batches in flight on each connection."""
    bodies = itertools.cycle([frame(events.metrics(door.user, 100, variant)) for variant in range(events.VARIANTS)])
    until = time.monotonic() + seconds

    async def push() -> int:
        async with connect(LOOPBACK, door.quic_port, configuration=configuration(door)) as connection:
            reader, writer = await connection.create_stream()
            sent = answered = count = 0
            while True:
                while sent - answered < 8 and time.monotonic() < until:
                    writer.write(next(bodies))
                    sent += 1
                if answered == sent:
                    return count
                count += (await read_ack(reader)).accepted
                answered += 1

    return sum(await asyncio.gather(*(push() for _ in range(connections))))


async def quic_paced(door: Door, seconds: float, rate: float = 200.0, connections: int = 8) -> list[float]:
    """Batches of 100 at `rate` a second over all connections; the seconds from each batch's send to its ack."""
    took: list[float] = []

    async def push(number: int) -> None:
        async with connect(LOOPBACK, door.quic_port, configuration=configuration(door)) as connection:
            reader, writer = await connection.create_stream()
            began, count = time.monotonic() + number / rate, 0
            while (due := began + count * connections / rate) < began + seconds:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                batch = MetricBatch.FromString(events.metrics(door.user, 100, count))
                sent = time.monotonic()
                writer.write(frame(batch.SerializeToString()))
                ack = await read_ack(reader)
                took.append(time.monotonic() - sent)
                assert ack.accepted == 100
                count += 1

    await asyncio.gather(*(push(number) for number in range(connections)))
    return took
