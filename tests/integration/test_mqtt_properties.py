"""User properties of what the notifier publishes, on a real broker: they go with a message, and never keep it back."""

import asyncio
from typing import Any

import mqtt5
import pytest

from app.mqtt.connection import BrokerAccount, Connection
from app.mqtt.publisher import MqttPublisher
from tests.servers import MqttServer

pytestmark = pytest.mark.integration

CONTEXT = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
LARGEST = 1_090_000  # as app/local/servers/mosquitto.py sets it
AROUND = 23  # bytes of a packet beside its payload and its properties, with a topic of 14
TOPIC = "users/u/alerts"


async def rest(_: str, seconds: float) -> None:
    await asyncio.sleep(seconds)


async def published(connection: Connection, payload: bytes) -> str | None:
    """What the broker says to the message."""
    answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
    assert connection.publish(TOPIC, payload, answer.set_result, CONTEXT) is None
    return await asyncio.wait_for(answer, 10)


async def received(reader: asyncio.StreamReader, kind: type[Any] = mqtt5.PublishPacket) -> Any:
    """The next packet of this kind."""
    buffer = b""
    while True:
        try:
            packet, size = mqtt5.read(memoryview(buffer))
        except IndexError:
            buffer += await asyncio.wait_for(reader.read(1 << 20), 10)
            continue
        buffer = buffer[size:]
        if isinstance(packet, kind):
            return packet


async def test_they_go_with_a_message_unless_it_would_be_too_large_with_them(
    mosquitto: MqttServer, unique: str
) -> None:
    server = mosquitto
    reader, writer = await asyncio.open_connection(server.host, server.port)
    connect = mqtt5.ConnectPacket(unique, username=server.username, password=server.password.encode())
    writer.write(connect.write() + mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(TOPIC)]).write())
    account = BrokerAccount(server.host, server.port, f"{unique}-n", server.username, server.password, None)
    publisher = MqttPublisher(account, rest)
    try:
        connection = await publisher.connect()
        await received(reader, mqtt5.SubAckPacket)
        assert await published(connection, b"small") is None
        small = await received(reader)
        assert (small.payload, small.user_properties) == (b"small", CONTEXT)
        large = b"x" * (LARGEST - AROUND)
        assert await published(connection, large) is None
        found = await received(reader)
        assert found.payload == large
        assert not found.user_properties
        assert "takes packets of up to" in (connection.publish(TOPIC, large + b"x", print, CONTEXT) or "")
    finally:
        writer.close()
        await writer.wait_closed()
        await publisher.close()
