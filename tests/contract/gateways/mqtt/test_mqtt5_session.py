"""The session against a broker that follows a script, for what a real one cannot be made to say."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import mqtt5
import pytest

from app.core.model.records import Kind
from app.errors import TransientError
from app.gateways.mqtt.session import Login, MqttSession
from app.gateways.record import IngestRecord
from tests.integration.bridges import until

LOGIN = Login(
    client_id="b",
    username="who",
    password="secret",
    filters=("$share/s/users/#", "$share/s/iot/#"),
    receive_max=321,
    session_expiry=777,
    max_packet=1 << 20,
)
GRANTED = mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE
Script = Callable[["Broker"], Awaitable[None]]


class Broker:
    """The broker's side of a connection, packet by packet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = b""
        self.raw = b""

    async def next(self, kind: Any) -> Any:
        """The client's next packet, which must be of this type."""
        while True:
            try:
                packet, size = mqtt5.read(memoryview(self._buffer))
            except IndexError:
                more = await asyncio.wait_for(self._reader.read(65536), 5)
                assert more, "the client closed"
                self._buffer += more
                self.raw += more
            else:
                self._buffer = self._buffer[size:]
                assert isinstance(packet, kind), packet
                return packet

    async def rest(self) -> bytes:
        """Everything until the client closes."""
        return self._buffer + await asyncio.wait_for(self._reader.read(), 5)

    def send(self, *packets: Any) -> None:
        """Packets, or bytes as they are."""
        self._writer.write(b"".join(one if isinstance(one, bytes) else one.write() for one in packets))

    async def welcome(self, **connack: Any) -> None:
        """CONNECT, CONNACK, SUBSCRIBE, SUBACK."""
        await self.next(mqtt5.ConnectPacket)
        self.send(mqtt5.ConnAckPacket(**connack))
        subscribe = await self.next(mqtt5.SubscribePacket)
        self.send(mqtt5.SubAckPacket(subscribe.packet_id, [GRANTED, GRANTED]))


@asynccontextmanager
async def session(
    script: Script, accepted: Callable[[bool], None] = lambda kept: None
) -> AsyncIterator[tuple[MqttSession, list[IngestRecord], "asyncio.Task[None]"]]:
    """A session connected to the script, what it delivers, and the script's task."""
    delivered: list[IngestRecord] = []
    started: asyncio.Future[asyncio.Task[None]] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(run(Broker(reader, writer), writer))
        started.set_result(task)
        await asyncio.wait([task])

    async def run(broker: Broker, writer: asyncio.StreamWriter) -> None:
        try:
            await script(broker)
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(
            lambda: MqttSession(LOGIN, delivered.extend, accepted), "127.0.0.1", port
        )
        task = await started
        yield made, delivered, task
        made.disconnect()
        await asyncio.wait([task], timeout=5)
        task.result()


async def test_it_asks_for_what_the_bridge_needs() -> None:
    async def script(broker: Broker) -> None:
        connect = await broker.next(mqtt5.ConnectPacket)
        assert not connect.clean_start
        assert (connect.client_id, connect.username, connect.password) == ("b", "who", b"secret")
        assert (connect.receive_max, connect.session_expiry_interval, connect.max_packet_size) == (321, 777, 1 << 20)
        assert connect.topic_alias_max == 0
        broker.send(mqtt5.ConnAckPacket(session_present=True))
        subscribe = await broker.next(mqtt5.SubscribePacket)
        assert [f.pattern for f in subscribe.topic_filters] == list(LOGIN.filters)
        assert [f.max_qos.value for f in subscribe.topic_filters] == [1, 1]
        assert not any(f.retain_as_published for f in subscribe.topic_filters), "live messages come without the flag"
        assert {f.retain_handling.name for f in subscribe.topic_filters} == {"SEND_IF_SUBSCRIPTION_NOT_EXISTS"}
        assert not any(f.no_local for f in subscribe.topic_filters), "an error for shared subscriptions"
        broker.send(mqtt5.SubAckPacket(subscribe.packet_id, [GRANTED, GRANTED]))
        assert (await broker.rest())[-2:] == b"\xe0\x00", "DISCONNECT"

    async with session(script) as (made, _, _):
        assert await made.subscribed is True


async def test_pubacks_go_out_in_the_order_given_and_a_damaged_message_is_one_of_them() -> None:
    def publish(packet_id: int, topic: str = "users/u/config") -> bytes:
        packet = mqtt5.PublishPacket(topic, b"p%d" % packet_id, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id)
        return bytes(packet.write())

    async def script(broker: Broker) -> None:
        await broker.welcome()
        broker.send(publish(7), publish(3).replace(b"users", b"us\xffrs"), publish(65535))
        acks = [await broker.next(mqtt5.PubAckPacket) for _ in range(3)]
        assert [ack.packet_id for ack in acks] == [7, 3, 65535]
        assert [ack.reason_code.value for ack in acks] == [0, 0, 0]

    async with session(script) as (made, delivered, task):
        await until(lambda: len(delivered) == 3, 5)
        made.ack([record.packet_id for record in delivered])
        await task
    assert [(record.kind, record.value) for record in delivered] == [
        (Kind.CONFIG, b"p7"),
        (Kind.UNKNOWN, b"p3"),
        (Kind.CONFIG, b"p65535"),
    ]


async def test_whether_the_broker_kept_the_session_is_known_before_any_message() -> None:
    reported: list[object] = []

    async def script(broker: Broker) -> None:
        await broker.next(mqtt5.ConnectPacket)
        message = mqtt5.PublishPacket("users/u/config", b"m", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1)
        broker.send(mqtt5.ConnAckPacket(session_present=True), message)  # in one piece, before any SUBACK
        await broker.rest()

    async with session(script, reported.append) as (_, delivered, _):
        await until(lambda: len(delivered) == 1, 5)
        assert reported == [True]


async def refused_login(broker: Broker) -> None:
    await broker.next(mqtt5.ConnectPacket)
    code = mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD
    broker.send(mqtt5.ConnAckPacket(reason_code=code, reason_str="no such user"))


async def refused_subscription(broker: Broker) -> None:
    await broker.next(mqtt5.ConnectPacket)
    broker.send(mqtt5.ConnAckPacket())
    subscribe = await broker.next(mqtt5.SubscribePacket)
    broker.send(mqtt5.SubAckPacket(subscribe.packet_id, [GRANTED, mqtt5.SubAckReasonCode.NOT_AUTHORIZED]))


async def no_shares(broker: Broker) -> None:
    await broker.next(mqtt5.ConnectPacket)
    broker.send(mqtt5.ConnAckPacket(shared_subscription_available=False))


async def taken_over(broker: Broker) -> None:
    await broker.next(mqtt5.ConnectPacket)
    broker.send(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER))


async def nonsense(broker: Broker) -> None:
    await broker.next(mqtt5.ConnectPacket)
    broker.send(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (refused_login, "refused the connection: BAD_USER_NAME_OR_PASSWORD no such user"),
        (refused_subscription, r"let who subscribe: iot/# \(NOT_AUTHORIZED\)"),
        (no_shares, "no shared subscriptions"),
        (taken_over, "SESSION_TAKEN_OVER"),
        (nonsense, "malformed packet"),
    ],
)
async def test_why_a_connection_ends_is_said(script: Script, words: str) -> None:
    async with session(script) as (made, _, _):
        with pytest.raises(TransientError, match=words):
            await asyncio.wait_for(asyncio.shield(made.subscribed), 5)
        assert made.closed.done()


async def test_a_silent_broker_is_left() -> None:
    async def script(broker: Broker) -> None:
        await broker.welcome(server_keep_alive=1)
        pings = (await broker.rest()).count(mqtt5.PingReqPacket().write())
        assert 1 <= pings <= 3, "every half second, if the machine has time; gone after 1.5 s"

    async with session(script) as (made, _, _):
        await made.subscribed
        assert "nothing heard" in await asyncio.wait_for(asyncio.shield(made.closed), 5)


async def test_a_paused_session_goes_on_pinging() -> None:
    async def script(broker: Broker) -> None:
        await broker.welcome(server_keep_alive=1)
        for _ in range(5):
            await broker.next(mqtt5.PingReqPacket)

    async with session(script) as (made, _, task):
        await made.subscribed
        made.pause()
        await asyncio.wait_for(task, 5)
