"""`iot-stream grpc` as it is run: real accounts, a real Kafka; killed, stopped, started twice, asked how it does."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import asyncpg
import grpc
import pytest
from grpc import aio

from app.client.failures import may_pass
from app.core.routing.tokens import PREFIX, digest
from app.local.servers.common import free_port
from app.local.servers.kafka import Kafka
from app.postgres.queries.mqtt_accounts import hashed
from app.protobuf.ingest_pb2 import GetHealthRequest, GetHealthResponse, PushMetricsRequest
from app.protobuf.ingest_pb2_grpc import IngestStub
from app.protobuf.metrics_pb2 import BatchAck, Metric, MetricBatch
from tests.integration.bridges import Program, create_topics, program, read_topic, until
from tests.integration.test_bridge_writer import stopped
from tests.servers import KafkaServer, MqttServer
from tools.command import iot_stream

if TYPE_CHECKING:
    from app.protobuf.ingest_pb2_grpc import IngestAsyncStub

pytestmark = pytest.mark.integration

TOKEN = PREFIX + "A" * 43
BEARER = (("authorization", f"Bearer {TOKEN}"),)
TIME_US = 1_795_226_400_000_000


class Site(NamedTuple):
    """Where the gateway of a test is, and with which settings."""

    socket: Path
    settings: dict[str, object]
    kafka: str
    topic: str


@pytest.fixture
async def site(kafka: KafkaServer, database: str, unique: str, server_dir: Path) -> Site:
    """Topics, a database with the account `n1` and a token of it, and a path for the socket."""
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq")
    await open_account(database)
    return site_of(kafka.bootstrap, database, unique, server_dir)


def site_of(bootstrap: str, database: str, unique: str, directory: Path) -> Site:
    socket = directory / "grpc.sock"
    settings: dict[str, object] = {
        "kafka_broker": bootstrap,
        "kafka_topic": unique,
        "kafka_dlq_topic": f"{unique}-dlq",
        "database_url": database,
        "grpc_socket": socket,
    }
    return Site(socket, settings, bootstrap, unique)


async def open_account(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            "INSERT INTO mqtt_users (username, user_id, password_hash) VALUES ('n1', 'n1', $1)", hashed("a password")
        )
        await connection.execute(
            "INSERT INTO gateway_tokens (username, name, token_hash) VALUES ('n1', 'test', $1)", digest(TOKEN)
        )
    finally:
        await connection.close()


def stub_on(channel: aio.Channel) -> "IngestAsyncStub":
    return cast("IngestAsyncStub", IngestStub(channel))


def channel_to(path: Path) -> aio.Channel:
    quick = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]
    return aio.insecure_channel(f"unix:{path}", options=[*quick, ("grpc.initial_reconnect_backoff_ms", 100)])


def batch(number: int, size: int = 50) -> MetricBatch:
    """Metrics number * size and on, by their sequence_id."""
    first = number * size
    return MetricBatch(
        batch_id=number,
        metrics=[
            Metric(node_id="n1", sensor_id=f"s{i % 7}", value=i + 0.5, time_us=TIME_US + i, sequence_id=i + 1)
            for i in range(first, first + size)
        ],
    )


def numbers(records: Iterable[Any]) -> list[int]:
    return [json.loads(record.value)["sequence_id"] for record in records]


@pytest.fixture
async def gateway(site: Site, tmp_path: Path) -> AsyncIterator[Program]:
    with program("grpc", tmp_path / "log", **site.settings) as made:
        await made.logged("gateways_started")
        yield made


@pytest.mark.usefixtures("gateway")
async def test_what_an_account_sends_is_in_kafka_and_what_is_not_its_own_is_refused(site: Site) -> None:
    async with channel_to(site.socket) as channel:
        stub = stub_on(channel)
        ack = await stub.PushMetrics(PushMetricsRequest(batch=batch(0, 3)), metadata=BEARER)
        assert (ack.accepted, len(ack.rejected)) == (3, 0)
        foreign = batch(1, 1)
        foreign.metrics[0].node_id = "n2"
        for metadata, code in ((BEARER, grpc.StatusCode.PERMISSION_DENIED), ((), grpc.StatusCode.UNAUTHENTICATED)):
            with pytest.raises(aio.AioRpcError) as caught:
                await stub.PushMetrics(PushMetricsRequest(batch=foreign), metadata=metadata)
            assert caught.value.code() is code
        wrong = (("authorization", f"Bearer {PREFIX}{'B' * 43}"),)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.PushMetrics(PushMetricsRequest(batch=batch(0, 1)), metadata=wrong)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    found = await read_topic(site.kafka, site.topic, lambda records: len(records) >= 3)
    assert numbers(found) == [1, 2, 3]
    first = dict(found[0].headers)
    assert (found[0].key, first["mqtt_topic"], first["gateway"]) == (b"n1", b"iot/n1/s0/telemetry", b"grpc")
    assert json.loads(found[0].value) == {"value": 0.5, "timestamp": TIME_US / 1e6, "sequence_id": 1}


async def test_programs_of_this_machine_send_for_every_node_as_the_example_of_the_help_says(
    site: Site, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    await asyncio.to_thread(password.write_text, "not needed here")
    allowed = ("--allow", "publish:iot/+/+/telemetry", "--password-file", str(password))
    added = await iot_stream({"database_url": site.settings["database_url"]}, "users", "add", "sidecar", *allowed)
    assert added.code == 0, added.error
    with program("grpc", tmp_path / "log", gateway_anonymous_account="sidecar", **site.settings) as made:
        await made.logged("gateways_started")
        async with channel_to(site.socket) as channel:
            mixed = batch(0, 4)
            mixed.metrics[1].node_id = "another"
            assert (await stub_on(channel).PushMetrics(PushMetricsRequest(batch=mixed))).accepted == 4
        assert made.stop() < 10
    found = await read_topic(site.kafka, site.topic, lambda records: len(records) >= 4)
    assert {record.key for record in found} == {b"n1", b"another"}


async def stream_all(path: Path, count: int, batches: "dict[int, bool]") -> None:
    """Send each batch until it has its ack, over as many streams as it takes; `batches`: which have."""
    while len(batches) < count:
        left = [number for number in range(count) if number not in batches]
        try:
            async with channel_to(path) as channel:
                call = stub_on(channel).StreamMetrics(metadata=BEARER, wait_for_ready=True, timeout=30)
                sending = asyncio.create_task(_send(call, left))
                while isinstance(ack := await call.read(), BatchAck):
                    assert ack.accepted == 50
                    batches[ack.batch_id] = True
                await sending
        except aio.AioRpcError as error:
            if not may_pass(error):
                raise
            sending.cancel()
            await asyncio.wait({sending})


async def _send(call: "aio.StreamStreamCall[MetricBatch, BatchAck]", left: list[int]) -> None:
    try:
        for number in left:
            await call.write(batch(number))
        await call.done_writing()
    except (aio.AioRpcError, asyncio.InvalidStateError):
        pass  # the stream has ended, which its reader notices


async def test_killed_and_started_again_under_a_stream_nothing_acknowledged_is_lost(
    site: Site, gateway: Program
) -> None:
    batches: dict[int, bool] = {}
    sending = asyncio.create_task(stream_all(site.socket, 400, batches))
    for part in (60, 200):
        await until(lambda part=part: len(batches) > part or sending.done())  # type: ignore[misc]
        gateway.kill()
        assert site.socket.name in os.listdir(site.socket.parent), "the gateway has left its socket"
        gateway.start()
    await sending
    found = await read_topic(site.kafka, site.topic, lambda records: len(set(numbers(records))) >= 400 * 50)
    assert set(numbers(found)) == set(range(1, 400 * 50 + 1))
    sensors: dict[bytes, list[int]] = {}
    for record in found:
        sensors.setdefault(dict(record.headers)["mqtt_topic"], []).append(json.loads(record.value)["sequence_id"])
    for sequence in sensors.values():
        firsts = list(dict.fromkeys(sequence))
        assert firsts == sorted(firsts), "order of a sensor's first occurrences"
    assert gateway.stop() < 10
    assert os.listdir(site.socket.parent) == []


async def test_a_stop_under_load_answers_what_it_took_within_ten_seconds(site: Site, gateway: Program) -> None:
    batches: dict[int, bool] = {}
    sending = asyncio.create_task(stream_all(site.socket, 100_000, batches))
    await until(lambda: len(batches) > 50)
    assert await asyncio.to_thread(gateway.stop) < 10
    await asyncio.sleep(0.2)
    acked = set(batches)
    sending.cancel()
    await asyncio.wait({sending})
    found = await read_topic(site.kafka, site.topic, lambda records: len(records) >= 50 * len(acked))
    wanted = {number * 50 + at + 1 for number in acked for at in range(50)}
    assert wanted <= set(numbers(found))
    assert len(found) == len(set(numbers(found))), "nothing twice: it was neither killed nor cut off"
    assert os.listdir(site.socket.parent) == []


@pytest.mark.usefixtures("gateway")
async def test_a_second_one_on_the_same_path_ends_with_a_line_and_the_first_goes_on(site: Site) -> None:
    second = await iot_stream({**site.settings, "metrics_port": free_port()}, "grpc")
    assert second.code == 2
    assert f"another server has {site.socket}" in second.error
    assert "IOT_GRPC_SOCKET" in second.error
    assert "Traceback" not in second.error
    async with channel_to(site.socket) as channel:
        ack = await stub_on(channel).PushMetrics(PushMetricsRequest(batch=batch(0, 3)), metadata=BEARER)
        assert ack.accepted == 3


@pytest.mark.usefixtures("gateway")
async def test_the_command_says_how_it_does_to_people_and_to_machines(site: Site) -> None:
    done = await iot_stream(site.settings, "grpc", "--health")
    assert done.code == 0, done.error
    assert done.out.startswith("status")
    assert "serving" in done.out
    found = (await iot_stream(site.settings, "grpc", "--health", "--json")).json
    assert found["status"] == "STATUS_SERVING"
    assert found["kafka_connected"]
    nobody = await iot_stream({**site.settings, "grpc_socket": f"{site.socket}.none"}, "grpc", "--health")
    assert nobody.code == 1
    assert "no gateway answers" in nobody.error


async def test_wrong_settings_end_it_with_exit_code_2(site: Site) -> None:
    for settings, words in (
        ({"grpc_port": free_port(), "grpc_host": "0.0.0.0"}, "IOT_GRPC_CERTIFICATE_FILE"),
        ({"grpc_socket": "-"}, "IOT_GRPC_PORT"),
    ):
        done = await iot_stream({**site.settings, **settings}, "grpc")
        assert done.code == 2, done.error
        assert words in done.error
        assert "Traceback" not in done.error


async def test_help_has_an_example(site: Site) -> None:
    done = await iot_stream(site.settings, "grpc", "--help")
    assert done.code == 0
    assert "grpcurl -plaintext -unix" in done.out
    assert "telemetry_ingest.sock" in done.out


async def test_the_configured_mqtt_broker_is_asked(site: Site, mosquitto: MqttServer, tmp_path: Path) -> None:
    for port, answers in ((mosquitto.port, True), (free_port(), False)):
        told = {"mqtt_host": mosquitto.host, "mqtt_port": port, "mqtt_username": mosquitto.username}
        settings = {**site.settings, **told, "mqtt_password": mosquitto.password}
        with program("grpc", tmp_path / f"log-{port}", **settings) as made:
            await made.logged("gateways_started")
            async with channel_to(site.socket) as channel:
                found = await stub_on(channel).GetHealth(GetHealthRequest())
                assert found.HasField("mqtt_connected")
                assert found.mqtt_connected is answers
            assert made.stop() < 10


async def health_once(stub: "IngestAsyncStub", is_so: Callable[[GetHealthResponse], bool]) -> GetHealthResponse:
    """What the gateway says of itself, once it says that."""
    for _ in range(300):
        if is_so(found := await stub.GetHealth(GetHealthRequest())):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"it still says {found}")


async def test_kafka_stands_still_calls_are_put_off_streams_wait_and_all_is_written_afterwards(
    database: str, unique: str, server_dir: Path, tmp_path: Path
) -> None:
    await open_account(database)
    broker = Kafka(server_dir / "kafka")
    broker.start()
    broker.wait_ready()
    try:
        site = site_of(broker.bootstrap, database, unique, server_dir)
        await create_topics(broker.bootstrap, unique, f"{unique}-dlq")
        with program("grpc", tmp_path / "log", grpc_answer_seconds=2, **site.settings) as made:
            await made.logged("gateways_started")
            async with channel_to(site.socket) as channel:
                stub = stub_on(channel)
                assert (await stub.PushMetrics(PushMetricsRequest(batch=batch(0)), metadata=BEARER)).accepted == 50
                os.kill(broker.pid, signal.SIGSTOP)
                await until(lambda: stopped(broker.pid))
                with pytest.raises(aio.AioRpcError) as caught:
                    await stub.PushMetrics(PushMetricsRequest(batch=batch(1)), metadata=BEARER)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                assert int(dict(caught.value.trailing_metadata() or ())["retry-after-ms"]) >= 100
                batches: dict[int, bool] = {0: True, 1: True}
                sending = asyncio.create_task(stream_all(site.socket, 40, batches))
                found = await health_once(stub, lambda found: bool(found.last_error))
                assert found.status == GetHealthResponse.STATUS_NOT_SERVING
                assert not found.kafka_connected
                assert "Kafka" in found.last_error
                assert len(batches) == 2
                os.kill(broker.pid, signal.SIGCONT)
                await asyncio.wait_for(sending, 60)
                found = await stub.GetHealth(GetHealthRequest())
                assert found.status == GetHealthResponse.STATUS_SERVING
            records = await read_topic(broker.bootstrap, unique, lambda got: len(set(numbers(got))) >= 2000)
            assert set(numbers(records)) == set(range(1, 2001))
            assert made.stop() < 10
    finally:
        os.kill(broker.pid, signal.SIGCONT)
        broker.stop()
