"""`iot-stream quic` as a process, on a real Kafka and accounts in a real database, and its sender."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.client.quic.credentials import client_configuration
from app.client.quic.sender import QuicSender
from app.errors import PermanentError
from app.local.ingest.certificates import LocalCertificates
from app.local.servers.common import LOOPBACK, free_port
from app.postgres.queries.mqtt_accounts import hashed
from app.protobuf.metrics_pb2 import BatchAck
from tests.integration.bridges import read_topic
from tests.quic_rig import TIME_US, batch, until
from tests.servers import GivenMqtt, KafkaServer
from tests.workers import ROOT, Running, Site

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


class Place:
    """A gateway's servers, settings and certificates; the account of the client is the test's own name."""

    def __init__(self, kafka: str, database: str, unique: str, directory: Path) -> None:
        self.node, self.certificates = unique, LocalCertificates(directory / "certificates")
        self.certificates.make(unique)
        files = self.certificates
        settings: dict[str, object] = {
            "quic_port": free_port(),
            "quic_certificate_file": files.server,
            "quic_key_file": files.server_key,
            "quic_ca_file": files.ca,
        }
        self.site = Site(kafka, database, GivenMqtt(LOOPBACK, 1883, "", ""), unique, directory, settings)

    async def prepare(self) -> None:
        """Topics, and the account."""
        await self.site.prepare([])
        await self.site.fetch(
            "INSERT INTO mqtt_users (username, user_id, password_hash) VALUES ($1, $1, $2)", self.node, hashed("none")
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where the gateway is."""
        return LOOPBACK, self.site.settings.quic_port

    def sender(self) -> QuicSender:
        """A sender with the test's certificate."""
        files = self.certificates
        return QuicSender(
            self.address, client_configuration(files.ca, files.client, files.client_key, "localhost"), max_bytes=100_000
        )

    @contextmanager
    def gateway(self) -> Iterator[Running]:
        """The gateway, which runs."""
        with self.site.program("quic") as program:
            yield program


@pytest.fixture
def place(kafka: KafkaServer, database: str, unique: str, tmp_path: Path) -> Place:
    return Place(kafka.bootstrap, database, unique, tmp_path)


async def test_metrics_are_the_records_that_mqtt_would_have_brought(place: Place) -> None:
    await place.prepare()
    node, topic = place.node, place.site.settings.kafka_topic
    with place.gateway() as gateway:
        await gateway.ready()
        async with place.sender() as sender:
            answer = await sender.send(batch(0, "s1", "s2", node=node, first=7))
            refused = await sender.send(batch(0, "s1", node="somebody-else"))
            await sender.flush()
        assert answer.result() == BatchAck(batch_id=1, accepted=2)
        assert [item.reason for item in refused.result().rejected] == ["not_allowed"]
        records = await read_topic(place.site.kafka, topic, lambda found: len(found) >= 2)
        assert [(record.key, dict(record.headers)["mqtt_topic"]) for record in records] == [
            (node.encode(), f"iot/{node}/s1/telemetry".encode()),
            (node.encode(), f"iot/{node}/s2/telemetry".encode()),
        ]
        assert all(dict(record.headers)["gateway"] == b"quic" for record in records)
        assert json.loads(records[0].value) == {"value": 20.5, "timestamp": TIME_US / 1e6, "sequence_id": 7}
        _, page = await gateway.get("/metrics")
        for line in (
            'iot_gateway_records_total{gateway="quic"} 2.0',
            'iot_gateway_requests_total{gateway="quic",outcome="accepted"} 1.0',
            'iot_gateway_rejected_total{gateway="quic",reason="not_allowed"} 1.0',
            "iot_gateway_series 2.0",
        ):
            assert line in page
        assert gateway.stop(10) < 5


async def test_a_gateway_that_is_killed_loses_nothing_that_was_answered(place: Place) -> None:
    """And the sender, with room for 100 kB, sends again what was not."""
    await place.prepare()
    node, topic = place.node, place.site.settings.kafka_topic
    answers: list[asyncio.Future[BatchAck]] = []
    killed = asyncio.Event()
    with place.gateway() as gateway:
        await gateway.ready()
        async with place.sender() as sender:

            async def send() -> None:
                while not killed.is_set():
                    answers.append(await sender.send(batch(0, "s1", "s2", node=node, first=1 + 2 * len(answers))))
                    await asyncio.sleep(0.005)
                await sender.flush()

            sending = asyncio.create_task(send())
            for _ in range(2):
                await more(answers)
                gateway.kill()
                await asyncio.sleep(0.1)
                gateway.start()
                await gateway.ready()
            killed.set()
            await sending
            assert {answer.result().accepted for answer in answers} == {2}
            assert sender.figures["connections"] >= 3
    wanted = set(range(1, 2 * len(answers) + 1))
    records = await read_topic(
        place.site.kafka, topic, lambda found: {json.loads(one.value)["sequence_id"] for one in found} >= wanted
    )
    firsts = list(dict.fromkeys(json.loads(record.value)["sequence_id"] for record in records))
    assert firsts == sorted(wanted), "of each the first comes in order"


async def more(answers: list["asyncio.Future[BatchAck]"]) -> None:
    """Wait until a good many more are answered than are now."""
    wanted = sum(answer.done() for answer in answers) + 30
    await until(lambda: sum(answer.done() for answer in answers) >= wanted, 30)


async def test_a_certificate_without_an_account_is_refused_as_such(place: Place) -> None:
    await place.site.prepare([])
    with place.gateway() as gateway:
        await gateway.ready()
        async with place.sender() as sender:
            answer = await sender.send(batch(0, "s1", node=place.node))
            with pytest.raises(PermanentError, match="no account's"):
                await sender.flush()
            assert isinstance(answer.exception(), PermanentError)


def run(**settings: object) -> "subprocess.CompletedProcess[str]":
    """`iot-stream quic` with these settings, which are wrong."""
    environment = {**os.environ, **{f"IOT_{name.upper()}": str(value) for name, value in settings.items()}}
    return subprocess.run(
        [sys.executable, "-m", "app", "quic"], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def test_without_certificates_it_does_not_start() -> None:
    ended = run(metrics_port=free_port())
    assert ended.returncode == 2
    assert "IOT_QUIC_CERTIFICATE_FILE" in ended.stderr
    assert "IOT_QUIC_CA_FILE" in ended.stderr


def test_at_a_port_that_is_taken_it_says_what_to_do(place: Place) -> None:
    values = place.site.values
    with place.gateway() as gateway:
        asyncio.run(gateway.ready())
        ended = run(**{**values, "metrics_port": free_port()})
    assert ended.returncode == 2
    assert "something listens there already; set IOT_QUIC_PORT" in ended.stderr
