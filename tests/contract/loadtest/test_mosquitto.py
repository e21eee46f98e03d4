"""The load tester's connections against a real broker, and against one that is half dead."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import mqtt5
import pytest

from app.errors import PermanentError, TransientError
from app.loadtest.connection import LoadBroker
from app.loadtest.plan import LoadPlan
from app.loadtest.schedule import Profile, Schedule
from app.loadtest.senders import Senders
from app.loadtest.tracers import Tracer
from app.loadtest.traffic import Traffic
from app.runtime.tracing.tracing import NO_TRACING
from tests import servers
from tests.servers import MqttServer
from tools.faults.mqtt import Line, line

pytestmark = pytest.mark.integration


def broker_of(server: MqttServer, password: str | None = None) -> LoadBroker:
    return LoadBroker(server.host, server.port, server.username, password or server.password, None)


@asynccontextmanager
async def senders(
    broker: LoadBroker, run: str, devices: int = 3, rate: float = 500, seconds: float = 2, ratio: float = 0.0
) -> AsyncIterator[Senders]:
    plan = LoadPlan(run, 1, devices, Schedule(Profile.STEADY, rate, seconds))
    made = Senders(plan, broker, None, Traffic(), Tracer(plan, NO_TRACING, ratio))
    try:
        yield made
    finally:
        await made.close()


async def heard_by(wire: Line, topic: str, sent: asyncio.Task[None]) -> list[mqtt5.PublishPacket]:
    """Everything on a topic until the sending is done and nothing more comes."""
    found: list[mqtt5.PublishPacket] = []
    while True:
        try:
            async with asyncio.timeout(1.0):
                packets = await wire.packets()
        except TimeoutError:
            if sent.done():
                return found
            continue
        for packet in packets:
            if isinstance(packet, mqtt5.PublishPacket):
                found.append(packet)
                if packet.packet_id:
                    wire.writer.write(mqtt5.PubAckPacket(packet.packet_id).write())


async def all_sent(made: Senders, cut: bool) -> None:
    stop = asyncio.Event()
    await made.connect(stop)
    sending = asyncio.create_task(made.run(Profile.STEADY, stop))
    while cut and not sending.done():
        await asyncio.sleep(0.3)
        for connection in list(made._connections.values()):
            connection.abort("cut by the test")
    await sending
    await made.drain(10, asyncio.Event())


@pytest.mark.parametrize("cut", [False, True])
async def test_every_reading_arrives_and_none_is_unanswered(mosquitto: MqttServer, unique: str, cut: bool) -> None:
    async with (
        line(mosquitto, f"ear-{unique}", kept=False) as wire,
        senders(broker_of(mosquitto), unique, ratio=0.5) as made,
    ):
        topic = mqtt5.TopicFilter(f"users/load-{unique}-1/#", max_qos=mqtt5.QoS.AT_LEAST_ONCE)
        wire.writer.write(mqtt5.SubscribePacket(1, [topic]).write())
        await wire.packets()
        found = await heard_by(wire, made.plan.topic(0), asyncio.create_task(all_sent(made, cut)))
    traffic = made.traffic
    assert (traffic.sent, traffic.acked, traffic.nobody, traffic.refused) == (1000, 1000, 0, 0)
    assert [device.waiting for device in made.devices] == [0, 0, 0]
    assert len({(one.topic, one.payload) for one in found}) == 1000
    assert sum(bool(one.user_properties) for one in found) > 300
    assert len(found) == 1000 if not cut else traffic.reconnects >= 3
    for device in made.devices:  # in order, repeats aside
        own = list(dict.fromkeys(one.payload for one in found if one.topic == made.plan.topic(device.number)))
        assert len(own) == device.sent
        assert own == sorted(own, key=lambda body: int(body.split(b":")[1].split(b",")[0]))


async def test_a_message_for_nobody_is_noticed(unique: str) -> None:
    with servers.mosquitto() as lonely:  # the broker of all tests keeps sessions of bridges
        async with senders(broker_of(lonely), unique, rate=50, seconds=1) as made:
            await all_sent(made, cut=False)
    assert (made.traffic.acked, made.traffic.nobody) == (50, 50)


async def test_a_wrong_password_is_one_clear_line(mosquitto: MqttServer, unique: str) -> None:
    async with senders(broker_of(mosquitto, "wrong"), unique) as made:
        with pytest.raises(PermanentError, match=r"^the MQTT broker at 127\.0\.0\.1:\d+ refuses operator: ") as caught:
            await made.connect(asyncio.Event())
    assert "wrong" not in str(caught.value)


async def test_no_server_is_one_clear_line(unique: str) -> None:
    async with senders(LoadBroker("127.0.0.1", 1, None, None, None), unique) as made:
        with pytest.raises(TransientError, match=r"^no way into the MQTT broker at 127\.0\.0\.1:1: Connect"):
            await made.connect(asyncio.Event())


async def test_a_server_that_says_nothing_is_one_clear_line(unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.loadtest.connection.CONNACK_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:  # the kernel takes connections, and nobody answers
        broker = LoadBroker("127.0.0.1", server.getsockname()[1], None, None, None)
        async with senders(broker, unique) as made:
            with pytest.raises(TransientError, match=r"does not answer within 0\.3 s$"):
                await made.connect(asyncio.Event())


async def test_an_account_without_the_right_is_one_clear_line(unique: str) -> None:
    """A broker that takes the connection and refuses each reading."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        buffer = b""
        while more := await reader.read(65536):
            buffer += more
            while True:
                try:
                    packet, size = mqtt5.read(memoryview(buffer))
                except IndexError:
                    break
                buffer = buffer[size:]
                if isinstance(packet, mqtt5.ConnectPacket):
                    writer.write(mqtt5.ConnAckPacket(receive_max=20).write())
                elif isinstance(packet, mqtt5.PublishPacket):
                    code = mqtt5.PubAckReasonCode.NOT_AUTHORIZED
                    writer.write(mqtt5.PubAckPacket(packet.packet_id, reason_code=code).write())
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with senders(LoadBroker("127.0.0.1", port, "who", None, None), unique) as made:
        with pytest.raises(
            PermanentError, match=r"refuses the readings \(\d+ not authorized\), such as on users/load-"
        ):
            await all_sent(made, cut=False)
    server.close()
    await server.wait_closed()
