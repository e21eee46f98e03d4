"""A gRPC gateway on real sockets, over a writer that can be held and accounts of a dictionary; and its clients."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from grpc import aio

from app.core.ingress.limits import IngressLimits
from app.gateways.admission import Admission
from app.gateways.grpc.server import GrpcGateway
from app.gateways.intake import Intake
from app.gateways.record import IngestRecord
from app.gateways.writer import KafkaWriter
from app.ports import Account, Refusal
from app.protobuf.ingest_pb2 import PushMetricsRequest
from app.protobuf.ingest_pb2_grpc import IngestStub
from app.protobuf.metrics_pb2 import Metric, MetricBatch
from app.settings import Settings

if TYPE_CHECKING:
    from app.protobuf.ingest_pb2_grpc import IngestAsyncStub

TOKEN = (("authorization", "Bearer good"),)
Metadata = tuple[tuple[str, str], ...]
TIME_US = 1_795_226_400_000_000


class HeldWriter:
    """Writes to a list, once `go` is set; what is in `refused` by its value is refused for ever."""

    topic = "iot-stream"

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.available = True
        self.written: list[IngestRecord] = []
        self.dead: list[IngestRecord] = []
        self.refused: set[bytes] = set()

    @property
    def answered(self) -> bool:
        """As KafkaWriter."""
        return self.available

    async def write(self, records: Sequence[IngestRecord], dead: Sequence[IngestRecord] = ()) -> list[IngestRecord]:
        """As KafkaWriter."""
        await self.go.wait()
        self.written += [record for record in records if record.value not in self.refused]
        self.dead += dead
        return [record for record in records if record.value in self.refused]

    async def close(self) -> None:
        """As KafkaWriter."""


class KnownAccounts:
    """app.ports.Accounts of dictionaries; `asked` is what each was asked, in order."""

    def __init__(self) -> None:
        self.tokens: dict[str, Account | Refusal] = {"good": Account("alice")}
        self.passwords: dict[tuple[str, str], Account | Refusal] = {("alice", "secret"): Account("alice")}
        self.certificates: dict[str, Account] = {"alice": Account("alice")}
        self.nobody: Account | Refusal = Refusal.BAD_CREDENTIALS
        self.asked: list[tuple[Any, ...]] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def by_password(self, user: str, password: str, peer: str) -> Account | Refusal:
        """The one that is known."""
        self.asked.append(("password", user, password, peer))
        return self.passwords.get((user, password), Refusal.BAD_CREDENTIALS)

    async def by_token(self, token: str, peer: str) -> Account | Refusal:
        """The one that is known."""
        self.asked.append(("token", token, peer))
        await self.answers.wait()
        return self.tokens.get(token, Refusal.BAD_CREDENTIALS)

    async def by_certificate(self, common_name: str, device: str | None, peer: str) -> Account | Refusal:
        """The one that is known, bound to the device."""
        self.asked.append(("certificate", common_name, device, peer))
        found = self.certificates.get(common_name)
        return Account(found.user_id, device) if found else Refusal.BAD_CREDENTIALS

    async def anonymous(self, peer: str) -> Account | Refusal:
        """`nobody`."""
        self.asked.append(("anonymous", peer))
        return self.nobody


class World:
    """A gateway, and what is behind the gateway."""

    def __init__(self, gateway: GrpcGateway, intake: Intake, writer: HeldWriter, accounts: KnownAccounts) -> None:
        self.gateway, self.intake, self.writer, self.accounts = gateway, intake, writer, accounts

    @property
    def written(self) -> list[bytes]:
        """Payloads that are in Kafka."""
        return [record.value for record in self.writer.written]


@asynccontextmanager
async def world(
    path: Path,
    more: Mapping[str, object] | None = None,
    *,
    limits: IngressLimits | None = None,
    accounts: KnownAccounts | None = None,
    **settings: object,
) -> AsyncIterator[World]:
    """A gateway that listens on the socket `path`, and what else `settings` and `more` say; stopped afterwards."""
    given: dict[str, Any] = {"grpc_socket": path, **settings, **(more or {})}
    writer, known = HeldWriter(), accounts or KnownAccounts()
    made = Settings(**given)
    intake = Intake(cast(KafkaWriter, writer), made.gateway_buffer_bytes, Admission(limits or IngressLimits()))
    gateway = GrpcGateway(made, intake, known)
    stop = asyncio.Event()
    writing = asyncio.create_task(intake.run(stop, 1.0))
    try:
        await gateway.start()
        yield World(gateway, intake, writer, known)
    finally:
        await gateway.stop(2.0)
        writer.go.set()
        stop.set()
        await writing


def client(path: Path, options: Sequence[tuple[str, int]] = ()) -> aio.Channel:
    """A channel of its own connection."""
    return aio.insecure_channel(f"unix:{path}", options=[("grpc.use_local_subchannel_pool", 1), *options])


@asynccontextmanager
async def connected(path: Path, options: Sequence[tuple[str, int]] = ()) -> "AsyncIterator[IngestAsyncStub]":
    """A stub on a channel of its own."""
    async with client(path, options) as channel:
        yield ingest(channel)


def ingest(channel: aio.Channel) -> "IngestAsyncStub":
    """The service's methods on a channel."""
    return cast("IngestAsyncStub", IngestStub(channel))


def unary(channel: aio.Channel, method: str) -> aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """A method whose messages are bytes: whatever they are."""
    return channel.unary_unary(method)


def opened(channel: aio.Channel, method: str, metadata: Metadata = ()) -> aio.StreamStreamCall[bytes, bytes]:
    """A stream of bytes."""
    made: aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    return made(metadata=metadata)


async def next_bytes(call: aio.StreamStreamCall[bytes, bytes]) -> bytes:
    """The next message of a stream, which is not at its end."""
    data = await call.read()
    assert isinstance(data, bytes), "the stream has ended"
    return data


def batch(number: int, values: Iterable[float], node: str = "alice") -> MetricBatch:
    """A metric each."""
    metrics = [
        Metric(node_id=node, sensor_id="s1", value=value, time_us=TIME_US, sequence_id=round(value)) for value in values
    ]
    return MetricBatch(batch_id=number, metrics=metrics)


def push(number: int, values: Iterable[float], node: str = "alice", force_flush: bool = False) -> PushMetricsRequest:
    """The request with that batch."""
    return PushMetricsRequest(batch=batch(number, values, node), force_flush=force_flush)
