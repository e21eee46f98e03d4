"""One idempotent Kafka producer for all that a worker writes: in, messages; out, the broker's ack for all of them.

Messages go as whole batches, one future a batch: aiokafka's per-message `send` costs 12 us a message, this 1.5.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.partitioner import murmur2
from msgspec import Struct
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential
from tenacity.stop import stop_base

from app.adapters.kafka_advice import advice
from app.errors import TransientError

log = structlog.get_logger()

BATCH_BYTES = 256 << 10
# A dead letter carries its payload in base64: 1 MiB becomes 1.4 MB, and headers come on top.
MAX_REQUEST_BYTES = 4 << 20
CLOSE_SECONDS = 1.0
LAST_SECONDS = 2.0  # for acks under way when told to give up
METADATA_SECONDS = 2.0  # aiokafka would look for a missing topic for 40 s, deaf to `give_up`


class Outgoing(Struct, frozen=True, gc=False):
    """One message to send; `partition` None lets the key decide (murmur2)."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = []
    partition: int | None = None


class WriteEvents(Protocol):
    """What happens to writes; whoever listens must not raise."""

    def write_held(self, topic: str, attempts: int, error: str, cure: str | None) -> None:
        """`attempts` tries in a row failed; they go on. `cure` is what an operator must do, when waiting is not it."""

    def write_resumed(self, topic: str) -> None:
        """A write went through again, or nobody waits for one any more."""


class Silent:
    """Tells nobody."""

    def write_held(self, topic: str, attempts: int, error: str, cure: str | None) -> None: ...
    def write_resumed(self, topic: str) -> None: ...


class GiveUp(stop_base):
    """Stop retrying when the process stops or its partitions are taken away."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    def __call__(self, retry_state: Any) -> bool:
        """Whether to stop (tenacity's contract)."""
        return self._event.is_set()


def gave_up(state: Any) -> NoReturn:
    """What tenacity calls once it stops: the outage has not ended before we had to."""
    raise TransientError(f"told to give up while waiting for Kafka: {state.outcome.exception()!r}")


class Producer:
    """Sends and waits for acks=all; waits out an outage of Kafka for as long as nobody says `give_up`."""

    def __init__(self, brokers: str, client_id: str, give_up: asyncio.Event, events: WriteEvents | None = None) -> None:
        self._events: WriteEvents = events or Silent()
        self.held: dict[str, str] = {}  # topics that take no writes now, and why
        self._options: dict[str, Any] = {
            "bootstrap_servers": brokers,
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": "lz4",
            "max_request_size": MAX_REQUEST_BYTES,
            "max_batch_size": BATCH_BYTES,
            "linger_ms": 0,
        }
        self._client: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._give_up = give_up

    async def send(self, topic: str, messages: Sequence[Outgoing]) -> dict[int, int]:
        """Send in order per partition; return {partition: last offset} once the broker has acked every message.

        Raises TransientError when told to give up first; some messages may then have been written. When cancelled,
        what is not on its way yet is not sent any more.
        """
        if not messages:
            return {}
        try:
            async for attempt in self._retrying(topic):
                with attempt:
                    return await self._send_once(topic, messages)
            raise AssertionError("unreachable: tenacity returns or raises")
        finally:
            self._resumed(topic)

    async def partitions(self, topic: str) -> int:
        """How many partitions `topic` has. Raises TransientError when told to give up first."""
        try:
            async for attempt in self._retrying(topic):
                with attempt:
                    return await self._count(await self._connected(), topic)
            raise AssertionError("unreachable: tenacity returns or raises")
        finally:
            self._resumed(topic)

    async def stop(self) -> None:
        """Close; safe to call twice. Everything acked is written, everything else belongs to un-acked batches."""
        client, self._client = self._client, None
        if client is not None:
            await _discard(client)

    async def _connected(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._client is None:
                client = AIOKafkaProducer(**self._options)
                try:
                    await client.start()
                except BaseException:
                    await client.stop()
                    raise
                self._client = client
        return self._client

    async def _count(self, client: AIOKafkaProducer, topic: str) -> int:
        try:
            async with asyncio.timeout(METADATA_SECONDS):
                return len(await client.partitions_for(topic))
        except TimeoutError:
            message = f"the brokers name no topic {topic}; if they are up, make it: iot-stream topics create"
            raise UnknownTopicOrPartitionError(message) from None

    async def _send_once(self, topic: str, messages: Sequence[Outgoing]) -> dict[int, int]:
        """Send all or raise the first failure; then all are sent again, so a partition may get repeats, in order."""
        client = await self._connected()
        count = await self._count(client, topic)
        sent = []
        for partition, part in _by_partition(messages, count).items():
            for batch, size in _batches(client, part):
                sent.append((await client.send_batch(batch, topic, partition=partition), partition, size))
        try:
            await self._acked([future for future, _, _ in sent])
        except (TransientError, asyncio.CancelledError):
            await self.stop()  # a batch sent later could overwrite what the partition's next owner has written
            raise
        failure = next((error for future, _, _ in sent if (error := future.exception())), None)
        if failure is not None:
            await self.stop()  # a lost batch leaves a gap in the idempotent sequence: begin a new one
            raise failure
        return {partition: future.result().offset + size - 1 for future, partition, size in sent}

    async def _acked(self, futures: Sequence["asyncio.Future[Any]"]) -> None:
        """Wait for all of them; raise TransientError when told to give up and they do not come soon."""
        all_of_them = asyncio.ensure_future(asyncio.wait(futures))
        signal = asyncio.ensure_future(self._give_up.wait())
        try:
            await asyncio.wait({all_of_them, signal}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({all_of_them}, timeout=LAST_SECONDS)
            if not all_of_them.done():
                raise TransientError("told to give up while waiting for Kafka's ack")
        finally:
            for task in (all_of_them, signal):
                task.cancel()

    def _held(self, topic: str, state: Any) -> None:
        error = state.outcome.exception()
        cure = advice(topic, error)
        log_retry("kafka_send_retry", topic, state)
        if cure or state.attempt_number > 1:  # a first failure may be a leader that moved
            self.held[topic] = f"{error!r}: {cure}" if cure else repr(error)
            self._events.write_held(topic, state.attempt_number, repr(error), cure)

    def _resumed(self, topic: str) -> None:
        if self.held.pop(topic, None) is not None:
            self._events.write_resumed(topic)

    def _retrying(self, topic: str) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type((KafkaError, OSError)),
            wait=wait_random_exponential(multiplier=0.2, max=5.0),
            stop=GiveUp(self._give_up),
            sleep=self._pause,
            before_sleep=lambda state: self._held(topic, state),
            retry_error_callback=gave_up,
        )

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._give_up.wait(), seconds)
        except TimeoutError:
            return


def _by_partition(messages: Sequence[Outgoing], count: int) -> dict[int, list[Outgoing]]:
    parts: dict[int, list[Outgoing]] = {}
    for message in messages:
        partition = message.partition
        if partition is None:
            partition = (murmur2(message.key or b"") & 0x7FFFFFFF) % count
        parts.setdefault(partition, []).append(message)
    return parts


def _batches(client: AIOKafkaProducer, messages: Sequence[Outgoing]) -> list[tuple[Any, int]]:
    """Whole batches of at most BATCH_BYTES (a larger message has one of its own), each with its size."""
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


async def _discard(client: AIOKafkaProducer) -> None:
    """Close without delivering: client.stop() alone waits for Kafka as long as a batch is pending."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.client.close()  # ends the requests under way, and so what the sender waits for
            await client._sender.close()
    except (TimeoutError, KafkaError) as error:
        log.warning("kafka_producer_close", error=repr(error))
    finally:
        client._closed = True  # or it complains of that when it is collected


def log_retry(event: str, topic: str, state: Any) -> None:
    """What tenacity calls before each pause: the first failures of many, then every tenth."""
    error = state.outcome.exception()
    level = logging.WARNING if state.attempt_number <= 3 or state.attempt_number % 10 == 0 else logging.DEBUG
    log.log(level, event, topic=topic, attempt=state.attempt_number, error=f"{error!r}")
