"""The idempotent producers of this product: in, messages; out, the broker's ack for all of them.

Messages go as whole batches, one future a batch: aiokafka's per-message `send` costs 12 us a message, a batch 1.5.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from app.errors import TransientError
from app.kafka.access import Access, start, wait_out
from app.kafka.advice import advice
from app.kafka.close_clients import close_producer
from app.kafka.events import NoWriteEvents, WriteEvents
from app.kafka.messages import BATCH_BYTES, OutgoingMessage, PendingSend, Sent
from app.kafka.session_lease import guard
from app.ports import Lease, Unlimited
from app.runtime.interrupt import Interrupt
from app.runtime.retry import log_level

log = structlog.get_logger()
T = TypeVar("T")

# A dead letter carries its payload in base64: 1 MiB becomes 1.4 MB, and headers come on top.
MAX_REQUEST_BYTES = 4 << 20
REQUEST_TIMEOUT_MS = 40_000  # aiokafka's own
LAST_SECONDS = 2.0  # for acks under way when interrupted
METADATA_SECONDS = 2.0  # aiokafka would look for a missing topic for 40 s, deaf to an interrupt


class IdempotentProducer:
    """One client of aiokafka at a time, made when needed: the sender closes the client when a batch has failed.

    A lost batch leaves a gap in the client's sequence, so the next batch needs a new client.
    """

    def __init__(
        self,
        kafka: Access,
        client_id: str,
        lease: Lease,
        *,
        batch_bytes: int = BATCH_BYTES,
        request_bytes: int = MAX_REQUEST_BYTES,
        request_timeout_ms: int = REQUEST_TIMEOUT_MS,
        connect_seconds: float | None = None,
    ) -> None:
        """No request that writes leaves while the `lease` is not sure. `connect_seconds` limits the time to connect;
        None: no limit.
        """
        self._kafka, self._lease, self._connect_seconds = kafka, lease, connect_seconds
        self._options: dict[str, Any] = {
            **kafka.options,
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": "lz4",
            "max_request_size": request_bytes,
            "max_batch_size": batch_bytes,
            "linger_ms": 0,
            "request_timeout_ms": request_timeout_ms,
        }
        self._client: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def connected(self) -> AIOKafkaProducer:
        """The client, started. Raises KAFKA_ERRORS while Kafka is away."""
        async with self._starting:
            if self._client is None:
                client = AIOKafkaProducer(**self._options)
                try:
                    async with asyncio.timeout(self._connect_seconds):
                        await start(client, self._kafka)
                except BaseException:
                    await close_producer(client)
                    raise
                guard(client.client, self._lease)
                self._client = client
        return self._client

    async def close(self) -> None:
        """Close the connections; safe to call twice. Messages not acked by now may have been written, or not."""
        client, self._client = self._client, None
        if client is not None:
            await close_producer(client)


class WriteHealth:
    """Which topics take no writes of one producer now, and why."""

    def __init__(self, events: WriteEvents) -> None:
        self.held: dict[str, str] = {}  # topics that take no writes now, and why
        self._events = events

    def failed(self, topic: str, attempts: int, error: BaseException) -> None:
        """A write failed for the `attempts`-th time in a row, and is tried again."""
        cure = advice(topic, error)
        log.log(log_level(attempts), "kafka_send_retry", topic=topic, attempt=attempts, error=repr(error))
        if cure or attempts > 1:  # a first failure may be a leader that moved
            self.held[topic] = f"{error!r}: {cure}" if cure else repr(error)
            self._events.write_held(topic, attempts, repr(error), cure)

    def resumed(self, topic: str) -> None:
        """A write has ended, with an ack or with a failure."""
        if self.held.pop(topic, None) is not None:
            self._events.write_resumed(topic)


class Producer:
    """Sends and waits for acks=all; waits out an outage of Kafka for as long as nobody interrupts."""

    def __init__(
        self,
        kafka: Access,
        client_id: str,
        interrupt: asyncio.Event,
        events: WriteEvents | None = None,
        lease: Lease | None = None,
    ) -> None:
        self._lease: Lease = lease or Unlimited()
        self.writes = WriteHealth(events or NoWriteEvents())
        self._producer = IdempotentProducer(kafka, client_id, self._lease)
        self._interrupt = Interrupt(interrupt)

    async def send(self, topic: str, messages: Sequence[OutgoingMessage]) -> dict[int, int]:
        """Send in order per partition; return {partition: last offset} once the broker has acked every message.

        Raises TransientError when interrupted first; some messages may then have been written. After a cancellation,
        messages that are not on their way yet are not sent any more.
        """
        if not messages:
            return {}
        unsent = PendingSend(messages)
        await self._insist(topic, lambda: self._send_once(topic, unsent))
        return unsent.offsets

    async def partitions(self, topic: str) -> int:
        """How many partitions `topic` has. Raises TransientError when interrupted first."""
        return await self._insist(topic, lambda: self._ask_count(topic))

    async def stop(self) -> None:
        """Close; safe to call twice. Everything acked is written, everything else belongs to un-acked batches."""
        await self._producer.close()

    async def _insist(self, topic: str, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await wait_out(call, partial(self.writes.failed, topic), self._interrupt)
        finally:
            self.writes.resumed(topic)

    async def _ask_count(self, topic: str) -> int:
        return await self._count(await self._producer.connected(), topic)

    async def _count(self, client: AIOKafkaProducer, topic: str) -> int:
        try:
            async with asyncio.timeout(METADATA_SECONDS):
                return len(await client.partitions_for(topic))
        except TimeoutError:
            message = f"the brokers name no topic {topic}; if they are up, make the topic: iot-stream topics create"
            raise UnknownTopicOrPartitionError(message) from None

    async def _send_once(self, topic: str, unsent: PendingSend) -> None:
        """Send all messages, or take off the acked messages and raise the first failure."""
        client = await self._producer.connected()
        count = await self._count(client, topic)
        if not unsent.fit(count):  # the topic got more partitions a moment ago, which the client hears of in minutes
            await client.client.force_metadata_update()
            raise UnknownTopicOrPartitionError(f"{topic} has {count} partitions, as far as this client knows")
        sent: list[Sent] = []
        try:
            putting = self._put(client, topic, unsent.batches(client, count), sent)
            await self._interrupt.race(putting, LAST_SECONDS, "interrupted while waiting for Kafka's ack")
        except (TransientError, asyncio.CancelledError):
            await self.stop()  # a batch sent later could overwrite what the partition's next owner has written
            raise
        failure = unsent.settle(sent)
        if failure is not None:
            await self.stop()  # a lost batch leaves a gap in the idempotent sequence: begin a new sequence
            raise failure

    async def _put(
        self, client: AIOKafkaProducer, topic: str, batches: dict[int, list[tuple[Any, int]]], sent: list[Sent]
    ) -> None:
        """Hand all batches over and wait until each is acked or has failed; `sent` says which.

        A batch of a partition waits for the ack of the batch before, and is not sent after a failure: the client may
        give up a batch and still write the next, whose messages would then be there before the messages sent again.
        """
        left = {partition: iter(of_it) for partition, of_it in batches.items()}
        while left:
            turn: list[Sent] = []
            for partition, waiting in left.items():
                if (one := next(waiting, None)) is None:
                    continue
                batch, size = one
                await self._lease.ensure()  # right before, or a stall falls in between
                try:
                    ack = await client.send_batch(batch, topic, partition=partition)
                except KafkaError as error:  # the client finds no room for longer than a request may take
                    ack = asyncio.get_running_loop().create_future()
                    ack.set_exception(error)
                ack.add_done_callback(_look)
                turn.append(Sent(partition, size, ack))
                sent.append(turn[-1])
            if turn:
                await asyncio.wait([done.ack for done in turn])
            left = {done.partition: left[done.partition] for done in turn if not done.ack.exception()}


def _look(ack: "asyncio.Future[Any]") -> None:
    """Take notice of a failure that comes after the sender was interrupted: nobody waits for it any more."""
    if not ack.cancelled():
        ack.exception()
