"""A client of each gateway: sends messages of a stream and returns when the gateway has answered all of them.

The clients implement the protocols without the product's own client library, so that any sender's view of an answer is
tested.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, cast

import aiohttp
import grpc
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import NetworkAddress

from app.local.servers.common import LOOPBACK
from app.protobuf.events_pb2 import EventBatch
from app.protobuf.ingest_pb2_grpc import IngestStub
from app.protobuf.metrics_pb2 import BatchAck, MetricBatch
from tools.faults.ways.setup import Door
from tools.faults.ways.streams import WayStream

if TYPE_CHECKING:
    from grpc.aio import StreamStreamCall

    from app.protobuf.ingest_pb2_grpc import IngestAsyncStub

PATIENCE = 20.0  # seconds for an answer; then the client reconnects and sends all unanswered messages again
RESET_TOKEN = 16  # bytes at the end of a stateless reset (RFC 9000, 10.3)
GONE = (
    OSError, EOFError, TimeoutError, aiohttp.ClientError, grpc.aio.AioRpcError, asyncio.InvalidStateError, ssl.SSLError,
)  # fmt: skip


class NotTaken(EOFError):
    """The gateway answers that it did not accept the messages for now; the client sends them again."""


class Wire(Protocol):
    """A connection to a gateway."""

    async def push(self, stream: WayStream, numbers: Sequence[int]) -> None:
        """Send these messages, and return when each message is acknowledged. Raises the errors in GONE."""


class HttpWire:
    """POST /v1/events, NDJSON, keep-alive."""

    def __init__(self, session: aiohttp.ClientSession, door: Door) -> None:
        self._session, self._url = session, f"{door.http_url}/v1/events"
        who = aiohttp.encode_basic_auth(door.user, door.password)
        self._headers = {"Content-Type": "application/x-ndjson", "Authorization": who}

    async def push(self, stream: WayStream, numbers: Sequence[int]) -> None:
        """Send these messages of the stream, and return when the gateway has acknowledged them."""
        body = b"\n".join([stream.message(n).payload for n in numbers])
        while True:
            wait = await self._wait_asked(body, len(numbers))
            if wait == 0:
                return
            await asyncio.sleep(wait)

    async def _wait_asked(self, body: bytes, size: int) -> float:
        """Seconds to wait before the body is sent again; 0: the gateway has accepted the body."""
        async with self._session.post(self._url, data=body, headers=self._headers) as answer:
            text = await answer.text()
            if answer.status in (429, 503):
                assert float(answer.headers["Retry-After"]) > 0, "a temporary refusal has Retry-After"
            if answer.status == 429:
                return float(answer.headers["Retry-After"])
            if answer.status >= 500:
                raise NotTaken(f"{answer.status} {text[:200]}")
            assert answer.status == 200, f"{answer.status} {text[:500]}"
            said = json.loads(text)
            assert (said["accepted"], said["rejected"]) == (size, []), text[:500]
            return 0.0


class TcpWire:
    """A login line, then JSON lines; acks count the lines so far."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._sent, self._acked = reader, writer, 0, 0

    async def login(self, door: Door) -> "TcpWire":
        """Log in. Raises NotTaken when the gateway cannot check the login now."""
        self._writer.write(json.dumps({"user": door.user, "password": door.password}).encode() + b"\n")
        said = await self._line()
        if said.get("ok") is not True:
            raise NotTaken(f"{said}")
        return self

    async def push(self, stream: WayStream, numbers: Sequence[int]) -> None:
        """Send these messages of the stream, and return when the gateway has acknowledged them."""
        self._writer.write(b"".join([stream.message(n).payload + b"\n" for n in numbers]))
        self._sent += len(numbers)
        await asyncio.wait_for(self._writer.drain(), PATIENCE)
        while self._acked < self._sent:
            said = await self._line()
            assert "line" not in said, said
            if "acked" not in said:
                raise NotTaken(f"{said}")
            assert self._acked < said["acked"] <= self._sent, said
            self._acked = said["acked"]

    async def _line(self) -> dict[str, int | bool]:
        async with asyncio.timeout(PATIENCE):
            line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the gateway closed the connection")
        said: dict[str, int | bool] = json.loads(line)
        return said


class GrpcWire:
    """StreamEvents: one ack per batch."""

    def __init__(self, channel: grpc.aio.Channel, door: Door) -> None:
        calls = cast("IngestAsyncStub", IngestStub(channel))
        self._call: StreamStreamCall[EventBatch, BatchAck] = calls.StreamEvents(metadata=door.metadata)
        self._number = 0

    async def push(self, stream: WayStream, numbers: Sequence[int]) -> None:
        """Send these messages of the stream, and return when the gateway has acknowledged them.

        Raises EOFError when the gateway ends the stream.
        """
        self._number += 1
        batch = EventBatch(batch_id=self._number, events=[stream.event(n) for n in numbers])
        async with asyncio.timeout(PATIENCE):
            await self._call.write(batch)
            ack = await self._call.read()
        if not isinstance(ack, BatchAck):
            raise EOFError(f"the gateway ended the stream: {await self._call.code()} {await self._call.details()}")
        _check(ack, self._number, len(numbers))


class QuicWire:
    """Frames on one stream: 4 bytes of length, big-endian, and a MetricBatch; BatchAcks come in equal frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._number = reader, writer, 0

    async def push(self, stream: WayStream, numbers: Sequence[int]) -> None:
        """Send these messages of the stream, and return when the gateway has acknowledged them."""
        self._number += 1
        body = MetricBatch(batch_id=self._number, metrics=[stream.metric(n) for n in numbers]).SerializeToString()
        self._writer.write(len(body).to_bytes(4, "big") + body)
        async with asyncio.timeout(PATIENCE):
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            ack = BatchAck.FromString(await self._reader.readexactly(size))
        _check(ack, self._number, len(numbers))


class ResetNoticed(QuicConnectionProtocol):
    """A client that recognises a stateless reset after a restart of the gateway, which aioquic does not."""

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        """End the streams when the datagram ends in the connection's reset token (asyncio.DatagramProtocol)."""
        if data[-RESET_TOKEN:] == self._quic._peer_cid.stateless_reset_token:
            for reader in self._stream_readers.values():
                reader.feed_eof()
        else:
            super().datagram_received(data, addr)


def _check(ack: BatchAck, number: int, size: int) -> None:
    assert ack.batch_id == number, ack
    if ack.HasField("refusal"):
        raise NotTaken(f"{ack.refusal}")
    assert (ack.accepted, list(ack.rejected)) == (size, []), ack


@asynccontextmanager
async def wire(way: str, door: Door) -> AsyncIterator[Wire]:
    """A connection that is ready to push. Raises the errors in GONE."""
    async with {"http": _http, "tcp": _tcp, "grpc": _grpc, "quic": _quic}[way](door) as made:
        yield made


@asynccontextmanager
async def _http(door: Door) -> AsyncIterator[Wire]:
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield HttpWire(session, door)


@asynccontextmanager
async def _tcp(door: Door) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection(LOOPBACK, door.tcp_port)
    try:
        yield await TcpWire(reader, writer).login(door)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@asynccontextmanager
async def _grpc(door: Door) -> AsyncIterator[Wire]:
    async with grpc.aio.insecure_channel(f"unix:{door.grpc_socket}") as channel:
        async with asyncio.timeout(PATIENCE):
            await channel.channel_ready()
        yield GrpcWire(channel, door)


@asynccontextmanager
async def _quic(door: Door) -> AsyncIterator[Wire]:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["iot-stream/1"], idle_timeout=PATIENCE)
    configuration.load_verify_locations(cafile=str(door.certificates.ca))
    configuration.load_cert_chain(str(door.certificates.client), str(door.certificates.client_key))
    made = connect(LOOPBACK, door.quic_port, configuration=configuration, create_protocol=ResetNoticed)
    async with made as connection:
        reader, writer = await connection.create_stream()
        try:
            yield QuicWire(reader, writer)
        finally:
            writer.close()
