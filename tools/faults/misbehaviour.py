"""An account that misbehaves at random: in, a broker and a seed; out, any abuse of its own topics."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence

import mqtt5

from tests.servers import MqttServer

GLOBS, RULES = 20, 20  # of a configuration; the program may accept fewer
RATE = 100.0  # maximum messages a second of one account
ODD = ["pump[1]", "a\x01b", "x" * 300, "ünï", "..", "%s", "a b", "#" * 3, "\ufffe", "'; --"]


class Account:
    """One account of a broker and its open connections."""

    def __init__(self, server: MqttServer, name: str, password: str, ports: Sequence[int], seed: int) -> None:
        """`ports`: HTTP ports of the programs."""
        self._server, self.name, self._password, self._ports = server, name, password, ports
        self._chance = random.Random(seed)
        self._number = 0
        self.sent = 0
        kinds: list[Callable[[], Awaitable[None]]] = [
            self.garbage, self.flood, self.flap, self.bad_commands, self.bad_rules, self.heavy_rules, self.odd_ids,
            self.retained, self.reconnects, self.half_requests,
        ]  # fmt: skip
        self._kinds = self._chance.sample(kinds, self._chance.randint(1, 3))

    async def run(self, until: float) -> None:
        """Misbehave until a time of time.monotonic, one kind after another for some seconds each."""
        while time.monotonic() < until:
            kind = self._chance.choice(self._kinds)
            seconds = min(self._chance.uniform(2, 10), until - time.monotonic())
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(max(0.1, seconds)):
                    await kind()
            await asyncio.sleep(0.1)

    async def garbage(self) -> None:
        """Publish payloads that are no telemetry."""
        await self._publish(lambda: (self._telemetry(), self._chance.randbytes(self._chance.randint(0, 2000))))

    async def flood(self) -> None:
        """Publish good readings at the rate RATE, with QoS 0 and 1."""
        await self._publish(lambda: (self._telemetry(), self._reading(20)), RATE, qos=self._chance.randint(0, 1))

    async def flap(self) -> None:
        """Publish readings each of which opens or closes an alert."""
        await self._publish(lambda: (self._telemetry(), self._reading(95 if self._number % 2 else 20)), RATE / 2)

    async def bad_commands(self) -> None:
        """Publish commands for unknown alerts; each command gets an answer."""
        command = {"device_id": "nobody", "rule_id": "none", "action": "ACK"}
        await self._publish(lambda: (f"users/{self.name}/alerts/manage", json.dumps(command).encode()), RATE / 2)

    async def bad_rules(self) -> None:
        """Publish configurations that are refused."""
        await self._publish(lambda: (f"users/{self.name}/config", b'[{"key": 1}]'))

    async def heavy_rules(self) -> None:
        """Publish a new configuration each time, with GLOBS globs."""

        def rules() -> tuple[str, bytes]:
            made = [
                {"id": f"r{rule}", "key": "temperature", "operator": ">", "threshold": 80, "message": "hot",
                 "devices": [f"*a*{self._number}b{rule}c{glob}*" for glob in range(GLOBS)]}
                for rule in range(RULES)
            ]  # fmt: skip
            return f"users/{self.name}/config", json.dumps(made).encode()

        await self._publish(rules, 1.0)

    async def odd_ids(self) -> None:
        """Publish to topics with allowed and forbidden ids; the broker closes the connection at some topics."""
        await self._publish(lambda: (f"users/{self.name}/devices/{self._chance.choice(ODD)}/telemetry", b"{}"), 5.0)

    async def retained(self) -> None:
        """Publish retained messages."""
        await self._publish(lambda: (self._telemetry(), self._reading(95)), 5.0, retain=True)

    async def reconnects(self) -> None:
        """Connect again and again without DISCONNECT."""
        while True:
            _, writer = await self._connect()
            try:
                await asyncio.sleep(self._chance.uniform(0, 0.2))
            finally:
                writer.transport.abort()

    async def half_requests(self) -> None:
        """Send HTTP requests that never end."""
        opened: list[asyncio.StreamWriter] = []
        try:
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", self._chance.choice(self._ports))
                writer.write(b"GET /live HTTP/1.1\r\nX-")
                opened.append(writer)
                if len(opened) > 200:
                    oldest = opened.pop(0)  # keeps a reference: an unreferenced writer warns before the abort
                    oldest.transport.abort()
                await asyncio.sleep(0.02)
        finally:
            for writer in opened:
                writer.transport.abort()

    def _telemetry(self) -> str:
        return f"users/{self.name}/devices/{self.name}/telemetry"

    def _reading(self, temperature: float) -> bytes:
        now = time.time()
        return json.dumps({"sequence_id": int(now * 1e6), "timestamp": now, "temperature": temperature}).encode()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._server.host, self._server.port)
        connect = mqtt5.ConnectPacket(
            self.name, username=self.name, password=self._password.encode(), clean_start=True
        )  # the client id that may publish as this device
        writer.write(connect.write())
        return reader, writer

    async def _publish(
        self, message: Callable[[], tuple[str, bytes]], rate: float = 20.0, qos: int = 1, retain: bool = False
    ) -> None:
        """Publish while the connection lasts; answers are read and ignored."""
        reader, writer = await self._connect()
        drain = asyncio.create_task(_thrown_away(reader))
        try:
            while not drain.done():
                self._number += 1
                topic, payload = message()
                number = self._number % 65535 + 1 if qos else None
                with contextlib.suppress(ValueError):  # not an MQTT packet
                    packet = mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS(qos), packet_id=number, retain=retain)
                    writer.write(packet.write())
                    self.sent += 1
                await writer.drain()
                await asyncio.sleep(self._chance.uniform(0.5, 1.5) / rate)
        finally:
            writer.transport.abort()
            drain.cancel()
            await asyncio.gather(drain, return_exceptions=True)


async def _thrown_away(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass
