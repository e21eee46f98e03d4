"""The senders of a run's messages: their rate may change, and they survive every fault of the servers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import mqtt5
from aiokafka import AIOKafkaProducer

from tests.servers import MqttServer
from tests.workers import Site
from tools.faults.mqtt import AGAIN, GONE, Line, line
from tools.faults.stream import Stream

TICK = 0.02  # seconds between two bursts
TRICKLE = 100.0  # messages a second
WINDOW = 500  # MQTT messages in flight, without a PUBACK
PATIENCE_MS = 300_000  # the producer's timeout, longer than any fault


class Pace:
    """The schedule of messages: `rate` a second, up to message `goal`, paused while `free` is not set."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.rate = 0.0
        self.goal = 0
        self.share = 0  # from this message on the rate is at most TRICKLE, so that messages remain for later faults
        self.next = 0  # number of the next message to be sent
        self.again = False  # acknowledged batches are sent again, by the senders that support repeats
        self.free = asyncio.Event()
        self.free.set()

    async def ticks(self) -> AsyncIterator[int]:
        """The number of messages to send at each tick, at least one."""
        credit, last = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            await self.free.wait()
            now = time.monotonic()
            trickle = min(TRICKLE, (self.goal - self.next) / 30)  # never ends
            rate = min(self.rate, trickle) if self.next >= self.share and self.share < self.goal else self.rate
            credit, last = min(credit + rate * (now - last), self.rate), now
            due = min(int(credit), self.goal - self.next)
            if due > 0:
                credit -= due
                yield due

    async def reached(self) -> None:
        """Wait until all messages up to the goal are sent and acknowledged."""
        while self.stream.sent < self.goal:  # noqa: ASYNC110 - a counter, not an event
            await asyncio.sleep(TICK)


async def send_to_kafka(site: Site, pace: Pace) -> None:
    """Write records as the bridge does, until cancelled."""
    stream, topic = pace.stream, site.settings.kafka_topic
    waiting: set[asyncio.Future[object]] = set()
    options = {"enable_idempotence": True, "linger_ms": 5, "request_timeout_ms": PATIENCE_MS}
    async with AIOKafkaProducer(bootstrap_servers=site.kafka, **options) as producer:
        async for due in pace.ticks():
            for _ in range(due):
                one = stream.message(pace.next)
                pace.next += 1
                headers = [("mqtt_topic", one.topic.encode()), ("kind", b"telemetry")]
                waiting.add(await producer.send(topic, one.payload, key=one.key, headers=headers))
            if pace.next == pace.goal:
                await asyncio.gather(*waiting)
            waiting = {one for one in waiting if not one.done() or one.exception()}
            stream.sent = pace.next - len(waiting)  # exact when no message waits


async def send_to_mqtt(server: MqttServer, name: str, pace: Pace) -> None:
    """Publish as devices do: QoS 1, in order, after a reconnect again from the first unacknowledged message."""
    while True:
        with contextlib.suppress(*GONE):
            async with line(server, f"sender-{name}", kept=False) as wire:
                pace.next = pace.stream.sent
                await _publish(wire, pace)
        await asyncio.sleep(AGAIN)


async def _publish(wire: Line, pace: Pace) -> None:
    acks = asyncio.create_task(_count_acks(wire, pace))
    try:
        async for due in pace.ticks():
            for _ in range(due):
                while pace.next - pace.stream.sent >= WINDOW and not acks.done():  # noqa: ASYNC110 - a counter
                    await asyncio.sleep(0.001)
                if acks.done():
                    return
                one = pace.stream.message(pace.next)
                number = pace.next % 65535 + 1
                packet = mqtt5.PublishPacket(one.topic, one.payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number)
                wire.writer.write(packet.write())
                pace.next += 1
            await wire.writer.drain()
    finally:
        acks.cancel()
        await asyncio.gather(acks, return_exceptions=True)


async def _count_acks(wire: Line, pace: Pace) -> None:
    """Count PUBACKs, which come in the order of the messages."""
    while True:
        for packet in await wire.packets():
            assert packet.packet_id == pace.stream.sent % 65535 + 1, "PUBACK out of order"
            assert packet.reason_code.value < 0x80, packet
            pace.stream.sent += 1
