"""Bare servers: the library of each way without limits, accounts, checks or metrics, and a pause of 3 ms as Kafka.

    python -m tools.bench.ways.floors http|tcp|grpc|quic ADDRESS [CERTIFICATE KEY]

The servers make the same records as the gateways (key, headers, JSON value) and answer when their chunk is "written":
the difference to a gateway in the same run is the cost of limits, accounts, checks and the real writer. ADDRESS: a
port, a socket for gRPC.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import uvloop
from aiohttp import web
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived

from app.protobuf.events_pb2 import EventBatch
from app.protobuf.metrics_pb2 import BatchAck, MetricBatch
from tools.bench.ways.floor_records import Sink, of_events, of_lines, of_metrics

LOOPBACK = "127.0.0.1"


async def http(port: int) -> None:
    """Serve HTTP with aiohttp: one event, NDJSON or protobuf."""
    sink = Sink()

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        if request.content_type == "application/x-protobuf":
            records = of_events(EventBatch.FromString(body).events, b"http")
        else:
            records = of_lines(body.split(b"\n"), b"http")
        await sink.put(records)
        return web.Response(text=f'{{"accepted":{len(records)},"rejected":[]}}')

    app = web.Application(client_max_size=4 << 20)
    app.router.add_post("/{tail:.*}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()


class Lines(asyncio.Protocol):
    """TCP: splits the received bytes, makes records and acknowledges the number of lines."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._rest, self._count = sink, b"", -1  # the login line is not counted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio.Protocol)."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Take whole lines (asyncio.Protocol)."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._count < 0 and lines:
            del lines[0]
            self._count = 0
            self._transport.write(b'{"ok":true}\n')
        if lines:
            records = of_lines(lines, b"tcp")
            self._count += len(records)
            ack = b'{"acked":%d}\n' % self._count
            self._sink.put(records).add_done_callback(lambda _: self._transport.write(ack))


async def tcp(port: int) -> None:
    """Serve Lines on a TCP port."""
    sink = Sink()
    await asyncio.get_running_loop().create_server(lambda: Lines(sink), LOOPBACK, port)


class Calls:
    """gRPC: the two measured calls, found by their names."""

    def __init__(self) -> None:
        self._sink = Sink()

    async def push(self, body: bytes, _: object) -> bytes:
        """PushMetrics: field 1 of the request is the batch."""
        from app.protobuf.ingest_pb2 import PushMetricsRequest

        return await self._taken(PushMetricsRequest.FromString(body).batch)

    async def stream(self, bodies: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        """StreamMetrics: messages are answered in order, while further messages come."""
        waiting: asyncio.Queue[asyncio.Task[bytes]] = asyncio.Queue(64)

        async def read() -> None:
            async for body in bodies:
                await waiting.put(asyncio.create_task(self._taken(MetricBatch.FromString(body))))

        reading = asyncio.create_task(read())
        try:
            while True:
                yield await (await waiting.get())
        finally:
            reading.cancel()

    async def _taken(self, batch: MetricBatch) -> bytes:
        records = of_metrics(batch.metrics, b"grpc")
        await self._sink.put(records)
        return BatchAck(batch_id=batch.batch_id, accepted=len(records)).SerializeToString()


async def grpc_(socket: str) -> None:
    """Serve Calls with grpcio.aio on a UNIX socket."""
    calls, server = Calls(), grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "PushMetrics": grpc.unary_unary_rpc_method_handler(calls.push),
        "StreamMetrics": grpc.stream_stream_rpc_method_handler(calls.stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("iot_stream.ingest.v1.Ingest", handlers),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    _keep.append(server)


class Frames(QuicConnectionProtocol):
    """QUIC: reads frames of a MetricBatch on streams and answers each frame with a frame of a BatchAck."""

    sink: Sink

    def quic_event_received(self, event: QuicEvent) -> None:
        """Take whole frames (aioquic)."""
        if not isinstance(event, StreamDataReceived):
            return
        buffer = self._buffers.setdefault(event.stream_id, bytearray())
        buffer += event.data
        while len(buffer) >= 4 and len(buffer) >= 4 + (size := int.from_bytes(buffer[:4], "big")):
            batch = MetricBatch.FromString(bytes(buffer[4 : 4 + size]))
            del buffer[: 4 + size]
            records = of_metrics(batch.metrics, b"quic")
            ack = BatchAck(batch_id=batch.batch_id, accepted=len(records)).SerializeToString()
            self.sink.put(records).add_done_callback(partial(self._answer, event.stream_id, ack))

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._buffers: dict[int, bytearray] = {}

    def _answer(self, stream: int, ack: bytes, _: "asyncio.Future[None]") -> None:
        self._quic.send_stream_data(stream, len(ack).to_bytes(4, "big") + ack)
        self.transmit()


async def quic(port: int, certificate: str, key: str) -> None:
    """Serve Frames with aioquic's own server, which cannot request client certificates."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["iot-stream/1"])
    configuration.load_cert_chain(certificate, key)
    Frames.sink = Sink()
    await serve(LOOPBACK, port, configuration=configuration, create_protocol=Frames)


_keep: list[object] = []


async def main() -> None:
    """Serve until the process is killed."""
    way, address, *files = sys.argv[1:]
    match way:
        case "http":
            await http(int(address))
        case "tcp":
            await tcp(int(address))
        case "grpc":
            await grpc_(address)
        case "quic":
            await quic(int(address), *files)
    print("serving", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
