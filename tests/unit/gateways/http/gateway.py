"""A whole HTTP gateway in this process, on a port of its own; only Kafka and the accounts are small fakes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast

import aiohttp
import yarl

from app.core.ingress.limits import IngressLimits
from app.gateways.admission import Admission
from app.gateways.http.server import HttpGateway
from app.gateways.intake import Intake
from app.gateways.record import IngestRecord
from app.gateways.writer import KafkaWriter
from app.ports import Account, Refusal
from app.settings import Settings

TELEMETRY = "/v1/users/alice/devices/d1/telemetry"
GOOD = b'{"sequence_id":1,"timestamp":"2026-11-21T02:00:00Z","temperature":21.5}'
TOKEN = {"Authorization": "Bearer token-of-alice"}
JSON = {**TOKEN, "Content-Type": "application/json"}


class FakeWriter:
    """KafkaWriter's, in memory; while `away` is set, writes wait."""

    topic = "iot-stream"

    def __init__(self) -> None:
        self.records: list[IngestRecord] = []
        self.dead: list[IngestRecord] = []
        self.refuses: bytes | None = None  # a record with this in its value is refused for ever
        self.there = asyncio.Event()
        self.there.set()
        self.stands_still = False  # Kafka, while it is not there: it takes connections, and answers nothing

    @property
    def available(self) -> bool:
        return self.there.is_set() or self.stands_still

    @property
    def answered(self) -> bool:
        return self.there.is_set()

    async def write(self, records: Sequence[IngestRecord], dead: Sequence[IngestRecord] = ()) -> Sequence[IngestRecord]:
        await asyncio.sleep(0)
        await self.there.wait()
        refused = [one for one in records if self.refuses is not None and self.refuses in one.value]
        self.records += [one for one in records if one not in refused]
        self.dead += [*dead, *refused]
        return refused

    async def close(self) -> None:
        """There is nothing to close."""


class FakeAccounts:
    """alice by password, token and certificate; `asked` counts, and `anonymous` is the account of who says nothing."""

    def __init__(self) -> None:
        self.asked = 0
        self.nobody: Account | Refusal = Refusal.BAD_CREDENTIALS
        self.answer: Refusal | None = None  # to everybody
        self.seen: list[tuple[str, ...]] = []

    async def by_password(self, user: str, password: str, peer: str) -> Account | Refusal:
        return self._found(Account(user) if (user, password) == ("alice", "secret") else None, user, password, peer)

    async def by_token(self, token: str, peer: str) -> Account | Refusal:
        made = Account(token.removeprefix("token-of-")) if token.startswith("token-of-") else None
        return self._found(made, token, peer)

    async def by_certificate(self, common_name: str, device: str | None, peer: str) -> Account | Refusal:
        made = Account(common_name, device) if common_name == "alice" else None
        return self._found(made, common_name, device or "", peer)

    async def anonymous(self, peer: str) -> Account | Refusal:
        return self.nobody

    def _found(self, account: Account | None, *asked: str) -> Account | Refusal:
        self.asked += 1
        self.seen.append(asked)
        return self.answer or account or Refusal.BAD_CREDENTIALS


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Serving:
    """A gateway that serves."""

    def __init__(self, gateway: HttpGateway, writer: FakeWriter, accounts: FakeAccounts, intake: Intake) -> None:
        self.gateway, self.writer, self.accounts, self.intake = gateway, writer, accounts, intake
        self.url = f"http://127.0.0.1:{gateway.port}"

    async def ask(
        self, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, method: str = "POST"
    ) -> Answer:
        """The answer to a request on a connection of its own."""
        async with (
            aiohttp.ClientSession(auto_decompress=False) as client,
            client.request(
                method,
                yarl.URL(self.url + path, encoded=True),
                data=body,
                headers=headers,
                skip_auto_headers=("Content-Type",),
            ) as answer,
        ):
            return Answer(answer.status, dict(answer.headers), await answer.read())

    async def raw(self, *pieces: bytes, seconds: float = 10.0, pause: float = 0.0) -> bytes:
        """All that comes back on a connection on which these bytes are sent, until it is closed or reset."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        found = bytearray()

        async def receive() -> None:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    found.extend(data)

        receiving = asyncio.create_task(receive())
        try:
            async with asyncio.timeout(seconds):
                for piece in pieces:
                    if writer.is_closing() or receiving.done():
                        break
                    writer.write(piece)
                    await asyncio.sleep(pause)
                await receiving
        finally:
            receiving.cancel()
            writer.close()
        return bytes(found)


@asynccontextmanager
async def serving(limits: IngressLimits | None = None, **values: Any) -> AsyncIterator[Serving]:
    """A gateway with these settings."""
    values = {"http_port": 0, "gateway_idle_seconds": 5.0, "gateway_header_seconds": 5.0, **values}
    settings = Settings(_env_file=None, **values)
    writer, accounts, stop = FakeWriter(), FakeAccounts(), asyncio.Event()
    intake = Intake(cast(KafkaWriter, writer), settings.gateway_buffer_bytes, Admission(limits or IngressLimits()))
    running = asyncio.create_task(intake.run(stop, 1.0))
    gateway = HttpGateway(settings, intake, accounts)
    await gateway.start()
    try:
        yield Serving(gateway, writer, accounts, intake)
    finally:
        await gateway.stop(1.0)
        writer.there.set()
        stop.set()
        await running
