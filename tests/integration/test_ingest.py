"""`iot-stream ingest` as a process: it starts as it is set or says why not, answers after Kafka's ack, and stops."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from app.core.ingress.login_pace import PAIR_FAILURES, PAIR_SECONDS
from app.core.routing.tokens import PREFIX
from app.local.servers.common import free_port
from app.local.servers.kafka import Kafka
from app.local.servers.postgres import Postgres
from app.postgres.queries import gateway_tokens
from app.postgres.queries.mqtt_accounts import AccountTable
from app.postgres.schema.init_sql import apply
from tests.integration.bridges import create_topics, read_topic, until
from tests.servers import KafkaServer
from tools.command import ROOT, iot_stream

pytestmark = pytest.mark.integration

PASSWORD = "a good password"
TOKEN, TRUCK, UNKNOWN = (PREFIX + letter * 43 for letter in "abc")
EVENTS = "/v1/events"


async def fill(dsn: str) -> None:
    """The account alice, a token of hers and one of her truck."""
    connection = await asyncpg.connect(dsn)
    await AccountTable(connection).add("alice", None, PASSWORD, [])
    await gateway_tokens.add(connection, TOKEN, "alice", None, "", None)
    await gateway_tokens.add(connection, TRUCK, "alice", "truck", "", None)
    await connection.close()


class Ingest:
    """A process with gateways on free ports; its log stays for the failure message."""

    def __init__(self, log: Path, settings: Mapping[str, object], *ways: str) -> None:
        self.log, self._ways = log, ways or ("--http",)
        self.port, self.metrics = free_port(), free_port()
        self._settings = {"http_port": self.port, "metrics_port": self.metrics, "log_format": "json", **settings}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, ready: bool = True) -> None:
        """Start it, and wait until it is ready."""
        environment = {f"IOT_{name.upper()}": str(value) for name, value in self._settings.items()}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "app", "ingest", *self._ways,
                cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **environment},
            )  # fmt: skip
        await until(lambda: "gateways_started" in self.log.read_text(), 30)
        if ready:
            async with aiohttp.ClientSession() as client, asyncio.timeout(30):
                while await self.page(client, "/ready") != 200:  # noqa: ASYNC110 - of another process
                    await asyncio.sleep(0.05)

    async def page(self, client: aiohttp.ClientSession, path: str) -> int:
        async with client.get(f"http://127.0.0.1:{self.metrics}{path}") as response:
            return response.status

    async def post(
        self, client: aiohttp.ClientSession, number: int, token: str = TOKEN, device: str = "truck"
    ) -> aiohttp.ClientResponse:
        """Post an event."""
        event = {"user_id": "alice", "device_id": device, "sequence_id": number, "time": "2026-11-21T02:00:00Z"}
        return await client.post(
            f"http://127.0.0.1:{self.port}{EVENTS}", json=[event], headers={"Authorization": f"Bearer {token}"}
        )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process
        self._process.send_signal(number)

    async def ended(self) -> tuple[int, float]:
        """The exit code of the process, and after how many seconds it ended."""
        assert self._process
        began = time.monotonic()
        return await asyncio.wait_for(self._process.wait(), 30), time.monotonic() - began

    async def close(self) -> None:
        """Be gone."""
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def ingest(log: Path, settings: Mapping[str, object], *ways: str, ready: bool = True) -> AsyncIterator[Ingest]:
    made = Ingest(log, settings, *ways)
    try:
        await made.start(ready)
        yield made
    finally:
        await made.close()


@pytest.fixture
async def site(kafka: KafkaServer, database: str, unique: str) -> dict[str, object]:
    """Settings of a topic and a database with accounts."""
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq")
    await fill(database)
    return {
        "kafka_broker": kafka.bootstrap, "kafka_topic": unique, "kafka_dlq_topic": f"{unique}-dlq",
        "database_url": database,
    }  # fmt: skip


async def test_it_answers_after_kafka_s_ack_and_knows_who_speaks(
    site: dict[str, object], kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    async with ingest(tmp_path / "log", site) as made, aiohttp.ClientSession() as client:
        async with await made.post(client, 1) as answer:
            assert answer.status == 200, await answer.text()
        async with await made.post(client, 2, TRUCK) as answer:
            assert answer.status == 200
        async with await made.post(client, 3, TRUCK, "car") as answer:
            assert "not_allowed" in await answer.text()
        for token in (UNKNOWN, "x"):
            async with await made.post(client, 4, token) as answer:
                assert answer.status == 401
        async with client.get(f"http://127.0.0.1:{made.metrics}/metrics") as page:
            metrics = await page.text()
        async with client.get(f"http://127.0.0.1:{made.metrics}/health") as page:
            health = await page.json()
    found = await read_topic(kafka.bootstrap, unique, lambda records: len(records) >= 2)
    assert sorted(json.loads(record.value)["sequence_id"] for record in found) == [1, 2]
    assert {dict(record.headers)["gateway"] for record in found} == {b"http"}
    assert {dict(record.headers)["mqtt_topic"] for record in found} == {b"users/alice/devices/truck/telemetry"}
    assert re.search(r'^iot_gateway_records_total{gateway="http"} 2.0$', metrics, re.M)
    assert re.search(r'^iot_gateway_refused_logins_total{gateway="http",reason="bad_credentials"} 2.0$', metrics, re.M)
    assert "iot_bridge_" not in metrics, "the process is no bridge"
    assert (health["program"], health["kafka"], health["database"], health["queue_depth"]) == ("http", True, True, 0)
    log = (tmp_path / "log").read_text()
    assert not any(secret in log for secret in (TOKEN, TRUCK, UNKNOWN, PASSWORD))


async def test_who_guesses_slows_himself_by_every_way_and_nobody_else(site: dict[str, object], tmp_path: Path) -> None:
    """The attacker has an address of his own: all of 127.0.0.0/8 is this machine."""
    tcp = free_port()

    async def post(made: Ingest, source: str, password: str) -> tuple[int, str | None]:
        headers = {"Authorization": aiohttp.encode_basic_auth("alice", password)}
        event = {"user_id": "alice", "device_id": "truck", "sequence_id": 1, "time": "2026-11-21T02:00:00Z"}
        url = f"http://127.0.0.1:{made.port}{EVENTS}"
        connector = aiohttp.TCPConnector(local_addr=(source, 0))
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers) as client,
            client.post(url, json=[event]) as answer,
        ):
            return answer.status, answer.headers.get("Retry-After")

    async def login(source: str, password: str) -> dict[str, object]:
        reader, writer = await asyncio.open_connection("127.0.0.1", tcp, local_addr=(source, 0))
        writer.write(json.dumps({"user": "alice", "password": password}).encode() + b"\n")
        said: dict[str, object] = json.loads(await reader.readline())
        writer.close()
        await writer.wait_closed()
        return said

    async with ingest(tmp_path / "log", {**site, "tcp_port": tcp}, "--http", "--tcp") as made:
        began = time.monotonic()
        guesses = [await post(made, "127.0.0.2", f"guess number {number}") for number in range(8)]
        said = await login("127.0.0.2", "another guess")
        right = (await post(made, "127.0.0.2", PASSWORD))[0]
        if time.monotonic() - began > PAIR_SECONDS:
            pytest.skip(f"{len(guesses) + 2} logins take longer than the {PAIR_SECONDS:g} s that give one more try")
        assert [status for status, _ in guesses] == [401] * PAIR_FAILURES + [429] * (8 - PAIR_FAILURES)
        assert all(int(wait or 0) > 0 for status, wait in guesses if status == 429)
        assert said["reason"] == "slowed_down", "not by another way either"
        assert right == 429, "the right password is answered as a wrong one"
        assert (await post(made, "127.0.0.1", PASSWORD))[0] == 200
        assert await login("127.0.0.3", PASSWORD) == {"ok": True}
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{made.metrics}/metrics") as page,
        ):
            metrics = await page.text()
    for line in ('{gateway="http",reason="bad_credentials"} 5.0', '{gateway="http",reason="slowed_down"} 4.0',
                 '{gateway="tcp",reason="slowed_down"} 1.0'):  # fmt: skip
        assert f"iot_gateway_refused_logins_total{line}" in metrics


async def test_stopped_under_load_it_answers_what_is_in_flight_and_loses_nothing(
    site: dict[str, object], kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    answered: list[int] = []
    stopped = asyncio.Event()
    numbers = iter(range(10**9))

    async def send(made: Ingest, client: aiohttp.ClientSession) -> None:
        while not stopped.is_set():
            number = next(numbers)
            try:
                async with await made.post(client, number) as answer:
                    if answer.status == 200:
                        answered.append(number)
                    elif answer.status != 503:
                        raise AssertionError(answer.status)
            except (aiohttp.ClientError, OSError):
                return

    async with ingest(tmp_path / "log", site) as made, aiohttp.ClientSession() as client:
        senders = [asyncio.create_task(send(made, client)) for _ in range(20)]
        await until(lambda: len(answered) > 500)
        made.signal(signal.SIGTERM)
        code, seconds = await made.ended()
        stopped.set()
        await asyncio.gather(*senders)
        assert code == 0, made.log.read_text()
        assert seconds < 10
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", made.port), timeout=2)
    found = await read_topic(kafka.bootstrap, unique, lambda records: len(records) >= len(answered))
    there = {json.loads(record.value)["sequence_id"] for record in found}
    assert set(answered) <= there


async def test_while_kafka_is_away_it_says_so_and_stops_in_time(
    database: str, server_dir: Path, unique: str, tmp_path: Path
) -> None:
    await fill(database)
    broker = Kafka(server_dir)
    broker.start()
    broker.wait_ready()
    await create_topics(broker.bootstrap, unique, f"{unique}-dlq")
    settings = {
        "kafka_broker": broker.bootstrap, "kafka_topic": unique, "kafka_dlq_topic": f"{unique}-dlq",
        "database_url": database, "shutdown_timeout": 3,
    }  # fmt: skip
    try:
        async with ingest(tmp_path / "log", settings) as made, aiohttp.ClientSession() as client:
            async with await made.post(client, 1) as answer:
                assert answer.status == 200
            broker.kill()
            waiting = asyncio.create_task(made.post(client, 2))
            await asyncio.sleep(1)
            made.signal(signal.SIGTERM)
            code, seconds = await made.ended()
            assert seconds < 3 + 3, made.log.read_text()
            assert code in (0, 75), made.log.read_text()
            try:
                async with await waiting as answer:
                    assert answer.status == 503
            except aiohttp.ClientError:
                pass  # the event was not answered, and is sent again
    finally:
        broker.stop()


async def test_while_the_database_is_away_nobody_is_refused_as_unknown(
    kafka: KafkaServer, server_dir: Path, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq")
    server = Postgres(server_dir)
    server.start()
    server.wait_ready()
    await apply(server.dsn)
    await fill(server.dsn)
    settings = {
        "kafka_broker": kafka.bootstrap, "kafka_topic": unique, "kafka_dlq_topic": f"{unique}-dlq",
        "database_url": server.dsn, "auth_cache_seconds": 0.5,
    }  # fmt: skip
    try:
        async with ingest(tmp_path / "log", settings) as made, aiohttp.ClientSession() as client:
            async with await made.post(client, 1) as answer:
                assert answer.status == 200
            server.kill()
            for number in range(3):
                await asyncio.sleep(0.6)
                async with await made.post(client, 2 + number) as answer:
                    assert answer.status == 200, "who was in is in, long after the cache"
                for token in (TRUCK, UNKNOWN):
                    async with await made.post(client, 9, token) as answer:
                        assert answer.status == 503
                        assert int(answer.headers["Retry-After"]) > 0
            assert await made.page(client, "/ready") == 200
            server.start()
            server.wait_ready()
            async with asyncio.timeout(30):
                while True:
                    async with await made.post(client, 10, TRUCK) as answer:
                        if answer.status == 200:
                            break
                    await asyncio.sleep(0.2)
            async with await made.post(client, 11, UNKNOWN) as answer:
                assert answer.status == 401
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("settings", "words", "code", "said"),
    [
        ({"http_host": "0.0.0.0"}, ("--http",), 2, "IOT_HTTP_CERTIFICATE_FILE"),
        ({"gateway_anonymous_account": "guest", "http_host": "::", "gateway_behind_proxy": True}, ("--http",), 2,
         "IOT_GATEWAY_ANONYMOUS_ACCOUNT is for this machine alone"),
        ({}, ("--quic",), 2, "IOT_QUIC_CERTIFICATE_FILE"),
        ({"auth_cache_seconds": "0"}, ("--http",), 2, "IOT_AUTH_CACHE_SECONDS"),
        ({}, (), 2, "name at least one way in"),
    ],
)  # fmt: skip
async def test_what_may_not_start_says_why(
    settings: dict[str, object], words: tuple[str, ...], code: int, said: str
) -> None:
    done = await iot_stream(settings, "ingest", *words)
    assert done.code == code, done.error
    assert said in done.error
    assert "Traceback" not in done.error


async def test_an_address_that_is_taken_is_one_line(site: dict[str, object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = await iot_stream({**site, "http_port": port, "metrics_port": free_port()}, "ingest", "--http")
    assert done.code == 2
    assert str(port) in done.error
    assert "Traceback" not in done.error
