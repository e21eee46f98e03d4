"""Where letters go: in, records; out, the broker's ack for all of them, and which it refuses for ever."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.codec import lz4_encode
from msgspec import Struct
from msgspec.structs import replace

from app.errors import TransientError
from app.kafka.access import KAFKA_ERRORS, Access, start
from app.kafka.messages import OutgoingMessage
from app.kafka.producer import Producer
from app.ports import Lease

PATIENCE = 120.0  # seconds without an ack
LARGE = 16 << 10  # bytes of a payload; what is smaller is taken by every topic
OVERHEAD = 200  # bytes of a batch with one record, beside its parts


class RefusedLetter(Struct, frozen=True):
    """A record that is refused for ever: its place in what was sent, and why."""

    at: int
    why: str


class LetterOutlet(Protocol):
    """Takes records."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[RefusedLetter]:
        """Return once each is acked or refused for ever. Raises TransientError when that takes longer than patience
        lasts, or when the command is stopped: then some may have been written.
        """

    async def close(self) -> None:
        """Close the connections; safe to call twice."""


class KafkaOutlet:
    """A topic of Kafka."""

    def __init__(
        self,
        kafka: Access,
        topic: str,
        interrupt: asyncio.Event,
        patience: float = PATIENCE,
        lease: Lease | None = None,
    ) -> None:
        """`lease`: asked before each request that writes; None: there is none."""
        self._kafka, self._topic, self._patience = kafka, topic, patience
        self._producer = Producer(kafka, "iot-stream-dlq", interrupt, lease=lease)
        self._partitions = 0
        self._largest: int | None = None  # bytes that the topic takes; None: not asked yet

    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[RefusedLetter]:
        """As LetterOutlet.send; the order of a partition is that of `messages`. Raises TransientError as well."""
        try:
            async with asyncio.timeout(self._patience):
                self._partitions = self._partitions or await self._producer.partitions(self._topic)
                refused = await self._too_large(messages)
                left = {one.at for one in refused}
                kept = [self._placed(one) for at, one in enumerate(messages) if at not in left]
                await self._producer.send(self._topic, kept)
        except TimeoutError:
            held = self._producer.writes.held.get(self._topic, "no ack comes")
            what = f"Kafka at {self._kafka} has not taken {self._topic} for {self._patience:g} s: {held}"
            raise TransientError(what) from None
        except KAFKA_ERRORS as error:
            raise TransientError(f"cannot ask Kafka at {self._kafka} about {self._topic}: {error}") from error
        return refused

    async def close(self) -> None:
        """Close the producer."""
        await self._producer.stop()

    def _placed(self, message: OutgoingMessage) -> OutgoingMessage:
        """The message with a partition that the topic has, if it names one."""
        if message.partition is None or message.partition < self._partitions:
            return message
        return replace(message, partition=message.partition % self._partitions)

    async def _too_large(self, messages: Sequence[OutgoingMessage]) -> list[RefusedLetter]:
        """Those that Kafka would refuse; tried again for ever, one such record would hold up all others."""
        refused = []
        for at, message in enumerate(messages):
            size = len(message.value or b"")
            if size < LARGE:
                continue
            self._largest = self._largest or await self._ask_largest()
            headers = sum(len(name) + len(value or b"") + 8 for name, value in message.headers)
            packed = len(lz4_encode(message.value, 9)) + len(message.key or b"") + headers + OVERHEAD
            if packed > self._largest:
                why = f"{size} bytes are more than {self._topic} takes: max.message.bytes is {self._largest}"
                refused.append(RefusedLetter(at, why))
        return refused

    async def _ask_largest(self) -> int:
        client = AIOKafkaAdminClient(**self._kafka.options, request_timeout_ms=10_000)
        try:
            await start(client, self._kafka)
            resource = ConfigResource(ConfigResourceType.TOPIC, self._topic)
            (answer,) = await client.describe_configs([resource])
        finally:
            await client.close()
        for _, _, _, _, entries in answer.resources:
            for name, value, *_ in entries:
                if name == "max.message.bytes":
                    return int(value)
        return 1 << 20
