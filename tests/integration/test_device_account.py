"""An account of one device at every way in: its telemetry and nothing else, as the tables say and as the brokers do."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import aiohttp
import asyncpg
import grpc
import pytest

from app.client.quic.credentials import client_configuration
from app.client.quic.sender import QuicSender
from app.core.routing.mqtt_acl import AclAction, AclRule
from app.core.routing.mqtt_topics import route
from app.local.ingest.certificates import LocalCertificates
from app.local.servers.common import LOOPBACK, free_port
from app.ports import Account
from app.postgres.accounts.statements import by_names
from app.postgres.connect import Connection
from app.postgres.queries.mqtt_accounts import AccountTable
from app.protobuf.events_pb2 import Event, EventBatch
from app.protobuf.ingest_pb2 import PushEventsRequest
from app.protobuf.ingest_pb2_grpc import IngestStub
from app.protobuf.metrics_pb2 import Metric, MetricBatch
from tests.deploy.test_accounts import AUTHORIZATION, query
from tests.integration.bridges import create_topics, read_topic
from tests.integration.test_ingest import Ingest
from tests.integration.test_users import TOPICS, may
from tests.servers import KafkaServer

if TYPE_CHECKING:
    from app.protobuf.ingest_pb2_grpc import IngestAsyncStub

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEY, PASSWORD = "alice-d1", "a good password"  # of device d1 of alice
TIME = "2026-11-21T02:00:00Z"
TIME_US = 1_795_226_400_000_000
DEVICES = (("alice", "d1"), ("alice", "d2"), ("bob", "d1"), (KEY, "d1"), (KEY, KEY), ("alice", KEY))
MINE = DEVICES[:1]


async def add_accounts(connection: Connection) -> None:
    """Accounts of each kind, with rules of their own."""
    table = AccountTable(connection)

    def allowed(name: str, *topics: str) -> list[AclRule]:
        return [AclRule(name, "allow", AclAction.PUBLISH, topic, 10) for topic in topics]

    await table.add("alice", None, PASSWORD, [])
    await table.add("bob", "bob:d1", PASSWORD, [])
    await table.add(KEY, f"{KEY}:d1", PASSWORD, [], ("alice", "d1"))
    await table.add("op", None, PASSWORD, allowed("op", "users/+/devices/${clientid}/telemetry", "iot/#"))
    await table.add("more", None, PASSWORD, allowed("more", "users/${username}/devices/d2/telemetry"), ("bob", "d1"))
    await connection.execute(
        "INSERT INTO mqtt_acl (username, clientid, permission, action, topic, qos, retain, priority) VALUES"
        " ('alice', NULL, 'deny', 'publish', 'users/alice/devices/d2/#', NULL, NULL, 5),"
        " ('alice', 'd1', 'deny', 'all', 'iot/alice/d1/telemetry', NULL, NULL, 5),"
        " ('op', NULL, 'deny', 'publish', 'users/bob/#', NULL, 1, 1), ('op', NULL, 'deny', 'publish', '#', 0, NULL, 1)"
    )


def sent(row: asyncpg.Record) -> bool:
    """Whether it is about what a gateway sends: acknowledged, and not retained."""
    return row["qos"] in (None, 1) and row["retain"] in (None, 0)


@pytest.mark.parametrize("account", ["alice", "bob", KEY, "op", "more"])
async def test_a_gateway_allows_what_emqx_allows(database: str, account: str) -> None:
    """By the query of emqx.conf, for a client that is called as the device in the topic."""
    connection = await asyncpg.connect(database)
    try:
        await add_accounts(connection)
        (found,) = (await by_names(connection, [account])).values()
        allowed = {"gateway": set[str](), "emqx": set[str]()}
        for topic in TOPICS:
            client_id = route(topic).device_id or found.account.device_id or "any"
            rows = await connection.fetch(query(AUTHORIZATION), account, client_id)
            if may(list(filter(sent, rows)), "publish", topic, account, client_id):
                allowed["emqx"].add(topic)
            if found.account.may_publish(topic):
                allowed["gateway"].add(topic)
    finally:
        await connection.close()
    bound = {topic for topic in allowed["emqx"] if not _speaks_for(found.account, topic)}
    assert allowed["gateway"] == allowed["emqx"] - bound
    assert allowed["gateway"]
    if account == KEY:
        assert allowed["emqx"] == {"users/alice/devices/d1/telemetry", "iot/alice/d1/telemetry"}


def _speaks_for(account: Account, topic: str) -> bool:
    """A client that is bound to another client id EMQX does not let in at all."""
    named = route(topic).device_id
    return not named or account.speaks_for(named)


class Ways:
    """A process with every gateway, and one who logs in as the account of a device."""

    def __init__(self, kafka: str, database: str, unique: str, directory: Path) -> None:
        self.certificates = LocalCertificates(directory / "certificates")
        self.certificates.make(KEY)
        files = self.certificates
        self.ports = {way: free_port() for way in ("tcp", "quic")}
        self.socket = directory / "s"
        self.topic = unique
        settings = {
            "kafka_broker": kafka, "kafka_topic": unique, "kafka_dlq_topic": f"{unique}-dlq", "database_url": database,
            "tcp_port": self.ports["tcp"], "quic_port": self.ports["quic"], "grpc_socket": self.socket,
            "quic_certificate_file": files.server, "quic_key_file": files.server_key, "quic_ca_file": files.ca,
        }  # fmt: skip
        self.process = Ingest(directory / "log", settings, "--http", "--tcp", "--grpc", "--quic")

    async def http(self) -> Sequence[int]:
        """Which of DEVICES, by their place, are refused."""
        url = f"http://{LOOPBACK}:{self.process.port}/v1"
        headers = {"Authorization": aiohttp.encode_basic_auth(KEY, PASSWORD)}
        async with aiohttp.ClientSession(headers=headers) as client:
            async with client.post(f"{url}/events", json=[event(*one) for one in DEVICES]) as answer:
                rejected = (await answer.json())["rejected"]
            assert {one["reason"] for one in rejected} == {"not_allowed"}
            for at, (user, device) in enumerate(DEVICES):
                sent = {"sequence_id": 1, "timestamp": TIME}
                async with client.post(f"{url}/users/{user}/devices/{device}/telemetry", json=sent) as answer:
                    assert answer.status == (403 if at in {one["index"] for one in rejected} else 200)
        return [one["index"] for one in rejected]

    async def tcp(self) -> Sequence[int]:
        """The same."""
        reader, writer = await asyncio.open_connection(LOOPBACK, self.ports["tcp"])
        lines = [{"user": KEY, "password": PASSWORD}, *(event(*one) for one in DEVICES)]
        writer.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        said = [json.loads(await reader.readline())]
        while said[-1].get("acked") != len(DEVICES):
            said.append(json.loads(await reader.readline()))
        writer.close()
        await writer.wait_closed()
        refused = [one for one in said if "line" in one]
        assert {one["reason"] for one in refused} == {"not_allowed"}
        return [one["line"] - 1 for one in refused]

    async def grpc(self) -> Sequence[int]:
        """The same."""
        items = [Event(user_id=user, device_id=device, sequence_id=1, time_us=TIME_US) for user, device in DEVICES]
        metadata = (("authorization", aiohttp.encode_basic_auth(KEY, PASSWORD)),)
        request = PushEventsRequest(batch=EventBatch(batch_id=1, events=items))
        async with grpc.aio.insecure_channel(f"unix:{self.socket}") as channel:
            calls = cast("IngestAsyncStub", IngestStub(channel))
            ack = await calls.PushEvents(request, metadata=metadata)
        assert {one.reason for one in ack.rejected} == {"not_allowed"}
        return [one.index for one in ack.rejected]

    async def quic(self) -> Sequence[int]:
        """The same, as a node with its sensors."""
        items = [Metric(node_id=user, sensor_id=device, value=1.5, time_us=TIME_US) for user, device in DEVICES]
        files = self.certificates
        configuration = client_configuration(files.ca, files.client, files.client_key, "localhost")
        async with QuicSender((LOOPBACK, self.ports["quic"]), configuration) as sender:
            ack = await (await sender.send(MetricBatch(batch_id=1, metrics=items)))
        assert {one.reason for one in ack.rejected} == {"not_allowed"}
        return [one.index for one in ack.rejected]


def event(user: str, device: str) -> dict[str, object]:
    """A reading, as JSON."""
    return {"user_id": user, "device_id": device, "sequence_id": 1, "timestamp": TIME}


@pytest.fixture
async def ways(kafka: KafkaServer, database: str, unique: str, server_dir: Path) -> AsyncIterator[Ways]:
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq")
    connection = await asyncpg.connect(database)
    await add_accounts(connection)
    await connection.close()
    made = Ways(kafka.bootstrap, database, unique, server_dir)
    try:
        await made.process.start()
        yield made
    finally:
        await made.process.close()


async def test_an_account_of_one_device_sends_its_telemetry_by_every_way_and_nothing_else(
    ways: Ways, kafka: KafkaServer
) -> None:
    others = list(range(len(MINE), len(DEVICES)))
    for way in (ways.http, ways.tcp, ways.grpc, ways.quic):
        assert await way() == others, way.__name__
    records = await read_topic(kafka.bootstrap, ways.topic, lambda found: len(found) >= 5)
    topics = sorted((dict(one.headers)["gateway"], dict(one.headers)["mqtt_topic"]) for one in records)
    telemetry, node = b"users/alice/devices/d1/telemetry", b"iot/alice/d1/telemetry"
    assert topics == [(way, telemetry) for way in (b"grpc", b"http", b"http")] + [(b"quic", node), (b"tcp", telemetry)]
