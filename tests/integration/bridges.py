"""What the bridge's tests share: a bridge in a process of its own, a publisher, and a reader of its topic."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import mqtt5
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.cli.main import module_of
from tests.servers import MqttServer

MAX_MESSAGE_BYTES = 1_200_000  # as docker-compose and `iot-stream topics` create the input topic


class Program:
    """One of the project's programs with its own settings; the log stays for the failure message."""

    def __init__(self, name: str, log: Path, **settings: object) -> None:
        self.log = log
        self._code = f"from {module_of(name)} import {name}; {name}()"
        self._settings = {f"IOT_{key.upper()}": str(value) for key, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self._from = 0  # where the log of the process begins

    @property
    def pid(self) -> int:
        """Process id while it runs."""
        assert self._process
        return self._process.pid

    def start(self) -> None:
        """Start it; it may be restarted after stop or kill."""
        environment = {**os.environ, "IOT_METRICS_PORT": "0", "IOT_LOG_FORMAT": "json", **self._settings}
        with self.log.open("ab") as log:
            self._from = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-c", self._code], env=environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """kill -9."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self) -> float:
        """SIGTERM; returns the seconds it took. Fails when it did not end well."""
        assert self._process
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(30)
        if code == -signal.SIGTERM and not self.log.read_bytes()[self._from :].count(b"_start"):
            code = 0  # the program had not come so far as to handle signals
        assert code == 0, self.log.read_text()
        return time.monotonic() - began

    def close(self) -> None:
        """Be gone, whatever state it is in."""
        if self._process and self._process.poll() is None:
            self.kill()

    async def logged(self, event: str, times: int = 1, seconds: float = 20) -> None:
        """Wait until the log names `event` that often."""
        await until(lambda: self.log.exists() and self.log.read_text().count(f'"event": "{event}"') >= times, seconds)


@contextmanager
def program(name: str, log: Path, **settings: object) -> Iterator[Program]:
    """A started program, ended afterwards."""
    made = Program(name, log, **settings)
    made.start()
    try:
        yield made
    finally:
        made.close()


async def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something; TimeoutError when it does not come."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - another process's log has no event to wait for
            await asyncio.sleep(0.02)


async def create_topics(bootstrap: str, *names: str, partitions: int = 12, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
    """Create topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        configs = {"max.message.bytes": str(max_bytes)}
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs) for name in names])
    finally:
        await admin.close()


async def read_topic(bootstrap: str, topic: str, enough: Callable[[list[Any]], bool], seconds: float = 30) -> list[Any]:
    """All records from the start, in order per partition, until `enough`, and what comes in 0.3 s after that."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    found: list[ConsumerRecord] = []
    deadline = time.monotonic() + seconds
    try:
        while not enough(found):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} records in {topic}")
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
        for records in (await consumer.getmany(timeout_ms=300)).values():
            found += records
    finally:
        await consumer.stop()
    return found


class Publisher:
    """An MQTT 5 client that publishes QoS 1 and knows what the broker has acknowledged."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = b""
        self._packet_id = 0

    async def connect(self, server: MqttServer, client_id: str) -> None:
        """Log in; the broker must accept."""
        password = server.password.encode()
        connect = mqtt5.ConnectPacket(client_id, username=server.username, password=password, clean_start=True)
        self._writer.write(connect.write())
        answer = await self._packet()
        assert answer.reason_code == mqtt5.ConnAckReasonCode.SUCCESS, answer

    async def publish(self, messages: Iterable[tuple[str, bytes]], window: int = 500, **more: Any) -> int:
        """Publish in order with at most `window` unacknowledged; returns how many the broker acknowledged."""
        sent = acked = 0
        for topic, payload in messages:
            self._packet_id = self._packet_id % 65535 + 1
            packet = mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=self._packet_id, **more)
            self._writer.write(packet.write())
            sent += 1
            while sent - acked >= window:
                await self._puback()
                acked += 1
        while acked < sent:
            await self._puback()
            acked += 1
        return acked

    def send_raw(self, data: bytes) -> None:
        """Bytes as they are."""
        self._writer.write(data)

    async def _puback(self) -> None:
        packet = await self._packet()
        assert isinstance(packet, mqtt5.PubAckPacket), packet
        assert packet.reason_code.value < 0x80, packet

    async def _packet(self) -> Any:
        while True:
            try:
                packet, size = mqtt5.read(memoryview(self._buffer))
            except IndexError:
                more = await asyncio.wait_for(self._reader.read(65536), 30)
                if not more:
                    raise ConnectionError("the broker closed the connection") from None
                self._buffer += more
            else:
                self._buffer = self._buffer[size:]
                return packet


def figure(log: Path, name: str) -> float:
    """A metric of the program that writes this log; 0 where it has none of this name."""
    port = re.findall(r'"metrics_port": (\d+)', log.read_text())[-1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        found = re.search(rf"^{name} (\S+)$", page.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


@asynccontextmanager
async def publisher(server: MqttServer, client_id: str = "publisher") -> AsyncIterator[Publisher]:
    """A connected publisher."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    made = Publisher(reader, writer)
    try:
        await made.connect(server, client_id)
        yield made
    finally:
        writer.close()
        await writer.wait_closed()
