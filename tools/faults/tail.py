"""The auditor of the input topic: consumes the records before retention deletes them."""

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from tests.workers import Site
from tools.audit import header
from tools.faults.stream import Stream, number_of


class Tail:
    """Counts the messages of each stream on the input topic; `problems`: foreign, altered and disordered messages."""

    def __init__(self, site: Site, streams: Iterable[Stream]) -> None:
        self._site = site
        self._streams = {stream.letter: stream for stream in streams}
        self.times = {letter: bytearray() for letter in self._streams}  # per message: its count on the topic
        # (partition, offset) -> bad messages, one for each log that the partition has had
        self.bad: dict[tuple[int, int], list[tuple[str, int]]] = {}
        self.partition: dict[str, int] = {}  # by device
        self.next: dict[int, int] = {}  # the next offset by partition
        self.problems: list[str] = []
        self._latest: dict[str, int] = {}
        self._stops = 0
        self._free = asyncio.Event()
        self._free.set()

    def stop(self) -> None:
        """Stop consuming, before the topic is deleted."""
        self._stops += 1
        self._free.clear()

    def begin_anew(self) -> None:
        """Consume the recreated topic from its start."""
        self.next.clear()
        self._free.set()

    async def run(self) -> None:
        """Consume the topic until cancelled."""
        while True:
            await self._free.wait()
            await self._follow()

    async def _follow(self) -> None:
        topic, stops = self._site.settings.kafka_topic, self._stops
        options = {"enable_auto_commit": False, "auto_offset_reset": "none", "request_timeout_ms": 10_000}
        async with AIOKafkaConsumer(bootstrap_servers=self._site.kafka, **options) as consumer:
            parts = [TopicPartition(topic, number) for number in range(self._site.settings.kafka_partitions)]
            consumer.assign(parts)
            for part in parts:
                consumer.seek(part, self.next.get(part.partition, 0))
            while True:
                try:
                    found = await consumer.getmany(timeout_ms=200, max_records=2000)
                except OffsetOutOfRangeError:  # an answer from the deleted topic
                    if stops == self._stops:
                        raise
                    return
                if stops != self._stops:
                    return
                for part, records in found.items():
                    for record in records:
                        self._note(record)
                    self.next[part.partition] = records[-1].offset + 1
                    await asyncio.sleep(0)

    def _note(self, record: Any) -> None:
        topic, n = (header(record, "mqtt_topic") or b"").decode(), number_of(record.value)
        stream = self._streams.get(_device(topic)[:1])
        if stream is None or n < 0 or stream.message(n).topic != topic:
            stream = None
        if stream is None or not stream.is_message(n, record.key, record.value):
            self.problems.append(f"input topic: an altered or foreign message at {record.partition}/{record.offset}")
            return
        times, device = self.times[stream.letter], stream.device(n)
        times.extend(bytes(max(0, n + 1 - len(times))))
        self.partition[device] = record.partition
        if not times[n]:
            if self._latest.get(device, -1) > n:
                self.problems.append(f"input topic: message {n} of {device} came after {self._latest[device]}")
            self._latest[device] = n
        if stream.bad(n) and (stream.each_record or not times[n]):
            self.bad.setdefault((record.partition, record.offset), []).append((stream.letter, n))
        times[n] = min(times[n] + 1, 255)

    def has(self, stream: Stream) -> bool:
        """Whether all sent messages of the stream were consumed."""
        times = self.times[stream.letter]
        return len(times) >= stream.sent and not times.count(0, 0, stream.sent)

    def repeats(self) -> int:
        """The number of repeated messages: MQTT delivers at least once."""
        return sum(sum(times) - len(times) + times.count(0) for times in self.times.values())


def _device(topic: str) -> str:
    """The device in users/<user>/devices/<device>/telemetry or iot/<node>/<device>/telemetry; "" for other topics."""
    levels = topic.split("/")
    if levels[-1] != "telemetry" or len(levels) != {"users": 5, "iot": 4}.get(levels[0]):
        return ""
    return levels[-2]
