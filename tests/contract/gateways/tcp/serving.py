"""A whole TCP gateway in this process, on a port of its own; only Kafka and the accounts are small fakes."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from app.core.ingress.limits import IngressLimits
from app.gateways.admission import Admission
from app.gateways.intake import Intake
from app.gateways.record import IngestRecord
from app.gateways.tcp.server import TcpGateway
from app.gateways.writer import KafkaWriter
from app.ports import Account, Refusal
from app.settings import Settings

LOGIN = b'{"user":"alice","token":"token-of-alice"}\n'


def event(number: int, device: str = "d1", **more: Any) -> bytes:
    """A good line."""
    fields = {"device_id": device, "sequence_id": number, "timestamp": 1795226400, "temperature": 21.5, **more}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


class MemoryWriter:
    """KafkaWriter's, in memory; while `there` is not set, writes wait."""

    topic = "iot-stream"

    def __init__(self) -> None:
        self.records: list[IngestRecord] = []
        self.dead: list[IngestRecord] = []
        self.refuses: bytes | None = None  # a record with this in its value is refused for ever
        self.there = asyncio.Event()
        self.there.set()

    @property
    def available(self) -> bool:
        return self.there.is_set()

    answered = available

    async def write(self, records: Sequence[IngestRecord], dead: Sequence[IngestRecord] = ()) -> Sequence[IngestRecord]:
        await self.there.wait()
        refused = [one for one in records if self.refuses is not None and self.refuses in one.value]
        self.records += [one for one in records if one not in refused]
        self.dead += [*dead, *refused]
        return refused

    async def close(self) -> None:
        """There is nothing to close."""


class KnownAccounts:
    """`token-of-<name>` is a token of each name, `secret` the password of alice, any certificate that of its name."""

    def __init__(self) -> None:
        self.nobody: Account | Refusal = Refusal.BAD_CREDENTIALS
        self.answer: Account | Refusal | None = None  # to everybody
        self.seen: list[tuple[str | None, ...]] = []
        self.asked_for = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def by_password(self, user: str, password: str, peer: str) -> Account | Refusal:
        return await self._found(
            Account(user) if (user, password) == ("alice", "secret") else None, user, password, peer
        )

    async def by_token(self, token: str, peer: str) -> Account | Refusal:
        made = Account(token.removeprefix("token-of-")) if token.startswith("token-of-") else None
        return await self._found(made, token, peer)

    async def by_certificate(self, common_name: str, device: str | None, peer: str) -> Account | Refusal:
        return await self._found(Account(common_name, device), common_name, device, peer)

    async def anonymous(self, peer: str) -> Account | Refusal:
        return self.nobody

    async def _found(self, account: Account | None, *asked: str | None) -> Account | Refusal:
        self.seen.append(asked)
        self.asked_for.set()
        await self.may_answer.wait()
        return self.answer or account or Refusal.BAD_CREDENTIALS


class Client:
    """The other side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *data: bytes) -> None:
        """Send without waiting for anything."""
        self.writer.writelines(data)

    async def said(self, seconds: float = 5.0) -> Any:
        """The next answer; None once the gateway has closed its side."""
        async with asyncio.timeout(seconds):
            line = await self.reader.readline()
        return json.loads(line) if line else None

    async def until_acked(self, number: int, seconds: float = 10.0) -> list[Any]:
        """All answers up to the ack of line `number`."""
        answers: list[Any] = []
        async with asyncio.timeout(seconds):
            while not answers or answers[-1] != {"acked": number}:
                answer = await self.said(seconds)
                assert answer is not None, answers
                answers.append(answer)
        return answers

    async def rest(self, seconds: float = 5.0) -> list[Any]:
        """All that is said until the gateway closes its side."""
        async with asyncio.timeout(seconds):
            return [json.loads(line) for line in (await self.reader.read()).splitlines()]

    def break_off(self) -> None:
        """Reset the connection: what is under way on it is lost."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def silent(self, seconds: float = 0.05) -> bool:
        """Whether nothing is said for so long."""
        try:
            await asyncio.wait_for(self.reader.readline(), seconds)
        except TimeoutError:
            return True
        return False


class ServedTcp:
    """A gateway that serves."""

    def __init__(self, gateway: TcpGateway, writer: MemoryWriter, accounts: KnownAccounts, intake: Intake) -> None:
        self.gateway, self.writer, self.accounts, self.intake = gateway, writer, accounts, intake
        self._clients: list[Client] = []

    async def connect(self, tls: ssl.SSLContext | None = None, receive_buffer: int | None = None) -> Client:
        """A connection that has said nothing."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.gateway.port))
        limit = receive_buffer or 1 << 20
        name = "localhost" if tls else None
        client = Client(*await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name, limit=limit))
        self._clients.append(client)
        return client

    async def logged_in(self, user: str = "alice") -> Client:
        """A connection of this user's."""
        client = await self.connect()
        client.send(b'{"token":"token-of-%b"}\n' % user.encode())
        assert await client.said() == {"ok": True}
        return client

    async def close_clients(self) -> None:
        """So that none is left behind."""
        for client in self._clients:
            client.writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def served(
    limits: IngressLimits | None = None, stop_seconds: float = 5.0, room: int | None = None, **more: Any
) -> AsyncIterator[ServedTcp]:
    """A gateway with these settings (without IOT_), until the end of the block."""
    settings = Settings(tcp_port=0, **more)
    writer, accounts = MemoryWriter(), KnownAccounts()
    gate = Admission(limits or IngressLimits())
    intake = Intake(cast(KafkaWriter, writer), room or settings.gateway_buffer_bytes, gate)
    ended = asyncio.Event()
    writing = asyncio.create_task(intake.run(ended, 1.0))
    gateway = TcpGateway(settings, intake, accounts)
    await gateway.start()
    made = ServedTcp(gateway, writer, accounts, intake)
    try:
        yield made
    finally:
        writer.there.set()
        await made.close_clients()
        await gateway.stop(stop_seconds)
        ended.set()
        await writing
