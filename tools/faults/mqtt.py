"""MQTT clients that survive every fault of the broker: a line for publishers, an ear that receives alerts."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import mqtt5

from tests.servers import MqttServer

PATIENCE = 15.0  # seconds without a byte before the client reconnects
AGAIN = 0.2  # seconds between two attempts to connect
GONE = (OSError, EOFError, TimeoutError)


class Line:
    """One MQTT connection: packets in and out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self._buffer = b""
        self._more: list[Any] = []  # packets received together with the CONNACK

    async def accepted(self) -> None:
        """Wait until the broker accepts the connection. Raises the errors in GONE, EOFError when the broker refuses."""
        answer, *self._more = await self.packets()
        if answer.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            raise EOFError(f"the broker refuses: {answer}")

    async def packets(self) -> list[Any]:
        """The next packets, at least one packet. Raises the errors in GONE, EOFError when the broker closes."""
        found, self._more = self._more, []
        while not found:
            async with asyncio.timeout(PATIENCE):  # wait_for of Python 3.11 may swallow a cancellation
                more = await self._reader.read(1 << 16)
            if not more:
                raise EOFError("the broker closed the connection")
            self._buffer += more
            found = list(self._whole())
        return found

    def _whole(self) -> Iterator[Any]:
        start = 0
        view = memoryview(self._buffer)
        with contextlib.suppress(IndexError):
            while True:
                packet, size = mqtt5.read(view[start:])
                start += size
                yield packet
        self._buffer = bytes(view[start:])


@asynccontextmanager
async def line(server: MqttServer, client_id: str, *, kept: bool) -> AsyncIterator[Line]:
    """A connection that the broker has accepted; `kept`: with a persistent session. Raises the errors in GONE."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        made = Line(reader, writer)
        connect = mqtt5.ConnectPacket(
            client_id,
            username=server.username,
            password=server.password.encode(),
            clean_start=not kept,
            session_expiry_interval=86400 if kept else 0,
            keep_alive=0,
        )
        writer.write(connect.write())
        await made.accepted()
        yield made
    finally:
        writer.close()
        with contextlib.suppress(*GONE):
            await writer.wait_closed()


class Heard(NamedTuple):
    """The fields that identify one alert message."""

    alert_id: str
    status: str
    device: str
    first_seen: str
    event_time: str


class Ear:
    """Receives a user's alerts in a persistent session; `heard` has every message, also repeats."""

    def __init__(self, server: MqttServer, user: str) -> None:
        self._server, self._user = server, user
        self.heard: list[Heard] = []
        self.listening = asyncio.Event()

    async def run(self) -> None:
        """Receive alerts until cancelled."""
        while True:
            with contextlib.suppress(*GONE):
                async with line(self._server, f"ear-{self._user}", kept=True) as wire:
                    topic = mqtt5.TopicFilter(f"users/{self._user}/alerts", max_qos=mqtt5.QoS.AT_LEAST_ONCE)
                    wire.writer.write(mqtt5.SubscribePacket(1, [topic]).write())
                    await self._hear(wire)
            await asyncio.sleep(AGAIN)

    async def _hear(self, wire: Line) -> None:
        while True:
            for packet in await wire.packets():
                if isinstance(packet, mqtt5.SubAckPacket):
                    self.listening.set()
                elif isinstance(packet, mqtt5.PublishPacket):
                    event = json.loads(packet.payload)
                    names = ("alert_id", "status", "device_id", "first_seen", "event_time")
                    self.heard.append(Heard(*(event[name] for name in names)))
                    wire.writer.write(mqtt5.PubAckPacket(packet.packet_id).write())
