"""Records -> the input topic, in order per key, for as long as it takes; in, a chunk; out, Kafka's ack for all of it.

One batch per partition is under way at a time, and the next chunk waits for this one: so a batch that fails is sent
again before anything of the same key can overtake it. While Kafka answers, the next chunk gathers, so batches grow with
the load and an idle stream waits for nothing. aiokafka's per-message `send` is not used: one future a batch instead of
one a message, 1.5 us of CPU a message instead of 12 (tests/bench/bridge.py).
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from app.adapters.closing import close_producer
from app.adapters.kafka_access import Access, start
from app.gateways.backoff import delay
from app.gateways.metrics import KAFKA_FAILURES, REFUSED, WRITTEN
from app.gateways.records import Outgoing, may_be_there
from app.gateways.refused import dead_letter

log = structlog.get_logger()

# Below the topic's max.message.bytes (1.2 MB), so that only a single large record can ever be too large.
BATCH_BYTES = 512 << 10
# aiokafka sends a timed-out batch again under the same sequence number, for ever; this is the pace of it.
REQUEST_TIMEOUT_MS = 10_000
# A producer that delivers nothing for this long is replaced: it may be wedged, and a new one costs only duplicates.
STUCK_SECONDS = 60.0
MAX_DEAD_LETTER_BYTES = 16 << 20  # the client's own limit; the broker's is what counts
CACHED_KEYS = 131_072
FOR_EVER = (MessageSizeTooLargeError, RecordListTooLargeError)

Outcome = dict[int, tuple[int, BaseException | None]]  # partition -> records sent, and why Kafka did not take them


class KafkaWriter:
    """Owns one idempotent producer at a time; replaces it when a batch fails, which leaves a gap in its sequence."""

    def __init__(self, kafka: Access, client_id: str, topic: str, dead_letter_topic: str) -> None:
        self._kafka = kafka
        self._options: dict[str, Any] = {
            **kafka.options,
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": "lz4",
            "max_batch_size": BATCH_BYTES,
            "max_request_size": MAX_DEAD_LETTER_BYTES,
            "linger_ms": 0,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
        }
        self._topic, self._dead_letter_topic = topic, dead_letter_topic
        self._producer: AIOKafkaProducer | None = None
        self._count = 0  # partitions of the topic
        self._partition_of: dict[bytes, int] = {}
        self.available = False  # whether the last attempt went through; for /ready

    async def write(self, records: Sequence[Outgoing]) -> None:
        """Return once every record is acked by all in-sync replicas, or refused for ever and dead-lettered."""
        attempt = 0
        pending: dict[int, list[Outgoing]] = {-1: list(records)}  # not yet assigned to partitions
        limits: dict[int, int] = {}  # most records in a batch, after Kafka found one too large
        refused: list[Outgoing] = []
        while pending or refused:
            try:
                producer = await self.connect()
                await self._dead_letters(producer, refused)
                pending = await self._assign(producer, pending)
                outcome = await self._round(producer, pending, limits)
                failure = _settle(outcome, pending, limits, refused)
            except (KafkaError, OSError, TimeoutError) as error:
                failure = error
            self.available = failure is None or isinstance(failure, FOR_EVER)
            attempt = 0 if self.available else attempt + 1
            if failure is not None:
                await self._failed(failure, attempt)

    async def connect(self) -> AIOKafkaProducer:
        """The producer, started. Raises KafkaError, OSError or TimeoutError while Kafka is away."""
        if self._producer is None:
            producer = AIOKafkaProducer(**self._options)
            try:
                await asyncio.wait_for(start(producer, self._kafka), STUCK_SECONDS)
            except BaseException:
                await close_producer(producer)
                raise
            self._producer = producer
            self.available = True
        return self._producer

    async def close(self) -> None:
        """Close the connections; what is not acked by now is the MQTT broker's to send again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer)

    async def _failed(self, error: BaseException, attempt: int) -> None:
        await self.close()
        if isinstance(error, FOR_EVER):
            return
        KAFKA_FAILURES.inc()
        wait = delay(attempt - 1)
        log.warning("bridge_kafka_retry", attempt=attempt, error=repr(error), wait_seconds=round(wait, 2))
        await asyncio.sleep(wait)

    async def _assign(
        self, producer: AIOKafkaProducer, pending: dict[int, list[Outgoing]]
    ) -> dict[int, list[Outgoing]]:
        """Records by partition; again whenever the topic's number of partitions has changed."""
        count = len(await producer.partitions_for(self._topic))
        if count == self._count and -1 not in pending:
            return pending
        if count != self._count or len(self._partition_of) > CACHED_KEYS:
            self._count = count
            self._partition_of.clear()
        return _by_partition((record for part in pending.values() for record in part), self._partition_of, count)

    async def _round(
        self, producer: AIOKafkaProducer, pending: dict[int, list[Outgoing]], limits: dict[int, int]
    ) -> Outcome:
        """Send one batch of every partition and wait for all of them."""
        sent = {}
        for partition, records in pending.items():
            batch, taken = _batch(producer, records, limits.get(partition, len(records)))
            sent[partition] = (await producer.send_batch(batch, self._topic, partition=partition), taken)
        if sent:
            await asyncio.wait([future for future, _ in sent.values()], timeout=STUCK_SECONDS)
        outcome: Outcome = {}
        for partition, (future, taken) in sent.items():
            late = None if future.done() else TimeoutError(f"no ack within {STUCK_SECONDS:.0f} s")
            future.cancel()
            outcome[partition] = (taken, late or future.exception())
        return outcome

    async def _dead_letters(self, producer: AIOKafkaProducer, refused: list[Outgoing]) -> None:
        while refused:
            key, value, headers = dead_letter(refused[0], self._topic)
            try:
                sent = producer.send_and_wait(self._dead_letter_topic, value, key=key, headers=headers)
                await asyncio.wait_for(sent, STUCK_SECONDS)
            except FOR_EVER:
                lost = refused.pop(0)
                REFUSED.labels("lost").inc()
                topic = lost.headers[0][1].decode("utf-8", "replace")
                log.error("bridge_record_lost", mqtt_topic=topic, bytes=len(lost.value), cure="raise max.message.bytes")
                raise
            refused.pop(0)
            REFUSED.labels("dead_lettered").inc()


def _by_partition(records: Iterable[Outgoing], known: dict[bytes, int], count: int) -> dict[int, list[Outgoing]]:
    parts: defaultdict[int, list[Outgoing]] = defaultdict(list)
    for record in records:
        partition = known.get(record.key)
        if partition is None:  # murmur2 in Python takes 2 us for 8 bytes
            partition = known[record.key] = (murmur2(record.key) & 0x7FFFFFFF) % count
        parts[partition].append(record)
    return dict(parts)


def _batch(producer: AIOKafkaProducer, records: Sequence[Outgoing], limit: int) -> tuple[BatchBuilder, int]:
    """A batch of as many records as fit, at least one, and their number."""
    batch, taken = producer.create_batch(), 0
    append = batch.append
    for record in records[:limit]:
        if append(timestamp=record.ingest_ms, key=record.key, value=record.value, headers=record.headers) is None:
            break
        taken += 1
    batch.close()
    return batch, taken


def _settle(
    outcome: Outcome, pending: dict[int, list[Outgoing]], limits: dict[int, int], refused: list[Outgoing]
) -> BaseException | None:
    """Take what was written or refused off `pending`; returns a failure, if there was one."""
    failure = None
    for partition, (taken, error) in outcome.items():
        too_large = isinstance(error, FOR_EVER)
        failure = error if error is not None and (failure is None or not too_large) else failure
        if too_large and taken > 1:
            limits[partition] = taken // 2
        elif error is None or too_large:
            refused += pending[partition][:taken] if too_large else []
            WRITTEN.inc(0 if too_large else taken)
            del pending[partition][:taken]
            if not pending[partition]:
                del pending[partition]
        else:
            may_be_there(pending[partition][:taken])
    return failure
