"""Messages on their way to Kafka: in, messages of a topic; out, whole batches by partition, until each is acked."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from msgspec import Struct

BATCH_BYTES = 256 << 10


class OutgoingMessage(Struct, frozen=True, gc=False):
    """One message to send; `partition` None lets the key decide (murmur2)."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = []
    partition: int | None = None


class Sent(NamedTuple):
    """A batch under way."""

    partition: int
    size: int  # messages
    ack: "asyncio.Future[Any]"


class PendingSend:
    """The messages of one send that Kafka has not acked yet, by partition; and the last acked offsets."""

    def __init__(self, messages: Sequence[OutgoingMessage]) -> None:
        self._messages = messages
        self._parts: dict[int, list[OutgoingMessage]] | None = None
        self.offsets: dict[int, int] = {}

    def batches(self, client: AIOKafkaProducer, count: int) -> dict[int, list[tuple[Any, int]]]:
        """The (batch, size) of each partition in their order, of a topic with `count` partitions."""
        return {partition: _batches(client, messages) for partition, messages in self._sorted(count).items()}

    def fit(self, count: int) -> bool:
        """Whether every message has its partition in a topic with `count` partitions."""
        return max(self._sorted(count), default=0) < count

    def _sorted(self, count: int) -> dict[int, list[OutgoingMessage]]:
        if self._parts is None:
            self._parts = _by_partition(self._messages, count)
        return self._parts

    def settle(self, sent: Sequence[Sent]) -> BaseException | None:
        """Take off the messages that were acked; returns a failure, if there was one.

        `sent` has the batches of a partition in their order, and none after a batch that failed: the partition is sent
        again from there, so that its messages stay in order.
        """
        assert self._parts is not None
        failure: BaseException | None = None
        for partition, size, ack in sent:
            if error := ack.exception():
                failure = failure or error
            else:
                self.offsets[partition] = ack.result().offset + size - 1
                del self._parts[partition][:size]
        self._parts = {partition: messages for partition, messages in self._parts.items() if messages}
        return failure


def key_partition(key: bytes, count: int) -> int:
    """The partition, of `count`, into which Kafka's own clients put a key."""
    return int((murmur2(key) & 0x7FFFFFFF) % count)


def _by_partition(messages: Sequence[OutgoingMessage], count: int) -> dict[int, list[OutgoingMessage]]:
    parts: dict[int, list[OutgoingMessage]] = {}
    for message in messages:
        partition = message.partition
        if partition is None:
            partition = key_partition(message.key or b"", count)
        parts.setdefault(partition, []).append(message)
    return parts


def _batches(client: AIOKafkaProducer, messages: Sequence[OutgoingMessage]) -> list[tuple[Any, int]]:
    """Batches of at most BATCH_BYTES (a larger message has a batch of its own), each with its number of messages."""
    now = int(time.time() * 1000)
    batches = [client.create_batch()]
    for message in messages:
        fields = {"timestamp": now, "key": message.key, "value": message.value, "headers": message.headers}
        if batches[-1].append(**fields) is None:
            batches.append(client.create_batch())
            batches[-1].append(**fields)
    for batch in batches:
        batch.close()
    return [(batch, batch.record_count()) for batch in batches]
