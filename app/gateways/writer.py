"""Records -> the input topic, in order per key, for as long as it takes; in, a chunk; out, Kafka's ack for all of it.

One batch per partition is under way at a time, and the next chunk waits for this one: so a batch that fails is sent
again before anything of the same key can overtake it. While Kafka answers, the next chunk gathers, so batches grow with
the load and an idle stream waits for nothing. aiokafka's per-message `send` is not used: one future a batch instead of
one a message; nor is its encoder (app/kafka/encoding): 1 us of CPU a message instead of 12 (tools/bench/bridge.py).
"""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError
from prometheus_client import Counter

from app.core.model.records import Reason
from app.gateways.blocks.record_queue import RecordQueue, queue_of
from app.gateways.dead_letter import NOWHERE, too_large_for
from app.gateways.partition_cache import PartitionCache
from app.gateways.record import IngestRecord, may_be_there
from app.kafka.access import KAFKA_ERRORS, Access
from app.kafka.encoding.record_batch import BatchEncoder
from app.kafka.producer import IdempotentProducer
from app.ports import Unlimited
from app.runtime.retry import delay

log = structlog.get_logger()

# Below the topic's max.message.bytes (1.2 MB), so that only a single large record can ever be too large.
BATCH_BYTES = 512 << 10
# aiokafka sends a timed-out batch again under the same sequence number, for ever; this is the pace of it.
REQUEST_TIMEOUT_MS = 10_000
# A producer that delivers nothing for this long is replaced: it may be wedged, and a new one costs only duplicates.
STUCK_SECONDS = 60.0
SLOW_SECONDS = 5.0  # a write that takes so long counts as an outage in /health
MAX_DEAD_LETTER_BYTES = 16 << 20  # the client's own limit; the broker's is what counts
TOO_LARGE = ("reason", Reason.PAYLOAD_TOO_LARGE.encode())
FOR_EVER = (MessageSizeTooLargeError, RecordListTooLargeError)

Place = tuple[str, int]  # topic, partition; NOWHERE: not yet assigned
Pending = dict[Place, RecordQueue]
Outcome = dict[Place, tuple[int, BaseException | None]]  # records sent, and why Kafka did not take them


class WriterMetrics(NamedTuple):
    """What a writer counts, and as whom it logs: a bridge and the gateways have their own."""

    program: str
    written: Counter
    refused: Counter  # by outcome
    failures: Counter


class KafkaWriter:
    """Writes until Kafka has all of it, with an idempotent producer that is replaced when a batch fails."""

    def __init__(
        self, kafka: Access, client_id: str, topic: str, dead_letter_topic: str, metrics: WriterMetrics | None = None
    ) -> None:
        """`metrics` None: nothing is counted, and the log is a bridge's."""
        self._producer = IdempotentProducer(
            kafka,
            client_id,
            Unlimited(),
            batch_bytes=BATCH_BYTES,
            request_bytes=MAX_DEAD_LETTER_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            connect_seconds=STUCK_SECONDS,
        )
        self._metrics, self._program = metrics, metrics.program if metrics else "bridge"
        self.topic, self._dead_letter_topic = topic, dead_letter_topic
        self._partitions = {topic: PartitionCache(), dead_letter_topic: PartitionCache()}
        self._encoder = BatchEncoder()
        self.available = False  # whether the last attempt went through; for /ready
        self._asked: float | None = None  # when the attempt under way began (monotonic)

    async def write(self, records: Sequence[IngestRecord], dead: Sequence[IngestRecord] = ()) -> Sequence[IngestRecord]:
        """Return once every record is acked by all in-sync replicas, or refused for ever and dead-lettered: the refused
        ones. Waits out an outage of Kafka for as long as it takes.

        `dead` are records for the dead-letter topic, written alike.
        """
        attempt = 0
        refused: list[IngestRecord] = []
        pending: Pending = {
            (self.topic, NOWHERE): queue_of(records),
            (self._dead_letter_topic, NOWHERE): queue_of(dead),
        }
        limits: dict[Place, int] = {}  # most records in a batch, after Kafka found one too large
        while pending:
            self._asked = time.monotonic()
            try:
                producer = await self.connect()
                pending = await self._assign(producer, pending)
                outcome = await self._round(producer, pending, limits)
                failure = self._settle(outcome, pending, limits, refused)
            except KAFKA_ERRORS as error:
                failure = error
            self._asked = None
            self.available = failure is None or isinstance(failure, FOR_EVER)
            attempt = 0 if self.available else attempt + 1
            if failure is not None:
                await self._failed(failure, attempt)
        return refused

    @property
    def answered(self) -> bool:
        """Whether Kafka takes what is written: the last attempt went through, and the one under way is not slow."""
        return self.available and (self._asked is None or time.monotonic() - self._asked < SLOW_SECONDS)

    async def connect(self) -> AIOKafkaProducer:
        """The producer, started. Raises KAFKA_ERRORS while Kafka is away."""
        producer = await self._producer.connected()
        self.available = True
        return producer

    async def close(self) -> None:
        """Close the connections; what is not acked by now is its sender's to send again."""
        await self._producer.close()

    async def _failed(self, error: BaseException, attempt: int) -> None:
        await self.close()
        if isinstance(error, FOR_EVER):
            return
        if self._metrics:
            self._metrics.failures.inc()
        wait = delay(attempt - 1)
        log.warning(f"{self._program}_kafka_retry", attempt=attempt, error=repr(error), wait_seconds=round(wait, 2))
        await asyncio.sleep(wait)

    async def _assign(self, producer: AIOKafkaProducer, pending: Pending) -> Pending:
        """Records by partition; again whenever a topic's number of partitions has changed."""
        changed = False
        for topic, partitions in self._partitions.items():
            if any(records and place[0] == topic for place, records in pending.items()):
                changed = partitions.resize(len(await producer.partitions_for(topic))) or changed
        if not changed and all(partition != NOWHERE for _, partition in pending):
            return pending
        assigned: Pending = {}
        for (topic, _), queue in pending.items():
            for partition, part in queue.parted(self._partitions[topic].of_all).items():
                if (before := assigned.setdefault((topic, partition), part)) is not part:
                    before.add(part)
        return assigned

    async def _round(self, producer: AIOKafkaProducer, pending: Pending, limits: dict[Place, int]) -> Outcome:
        """Send one batch of every partition and wait for all of them."""
        sent = {}
        for place, queue in pending.items():
            batch = queue.batch(self._encoder, BATCH_BYTES, limits.get(place))
            sent[place] = (await producer.send_batch(batch, place[0], partition=place[1]), batch.record_count())
        if sent:
            await self._acked([future for future, _ in sent.values()])
        outcome: Outcome = {}
        for place, (future, taken) in sent.items():
            late = None if future.done() else TimeoutError(f"no ack within {STUCK_SECONDS:.0f} s")
            future.cancel()
            outcome[place] = (taken, late or future.exception())
        return outcome

    async def _acked(self, batches: Sequence["asyncio.Future[object]"]) -> None:
        """Wait for all of them, at most STUCK_SECONDS; an outage is logged before: aiokafka tries again silently."""
        _, late = await asyncio.wait(batches, timeout=min(SLOW_SECONDS, STUCK_SECONDS))
        if late and SLOW_SECONDS < STUCK_SECONDS:
            error = f"Kafka has not acknowledged {len(late)} of {len(batches)} batches within {SLOW_SECONDS:.0f} s"
            log.warning(f"{self._program}_kafka_slow", error=error)
            await asyncio.wait(late, timeout=STUCK_SECONDS - SLOW_SECONDS)

    def _settle(
        self, outcome: Outcome, pending: Pending, limits: dict[Place, int], refused: list[IngestRecord]
    ) -> BaseException | None:
        """Take what was written or refused off `pending`, into `refused`; returns a failure, if there was one."""
        failure = None
        dead: list[IngestRecord] = []
        for place, (taken, error) in outcome.items():
            too_large = isinstance(error, FOR_EVER)
            failure = error if error is not None and (failure is None or not too_large) else failure
            if too_large and taken > 1:
                limits[place] = taken // 2
            elif error is None or too_large:
                done = pending[place].take(taken)
                if not pending[place]:
                    del pending[place]
                if self._done(place[0], done, too_large):
                    refused += done.records()
                    dead += [too_large_for(record, self.topic) for record in done.records()]
            else:
                may_be_there(pending[place].records()[:taken])
        if dead:
            pending.setdefault((self._dead_letter_topic, NOWHERE), RecordQueue([])).add(queue_of(dead))
        return failure

    def _done(self, topic: str, done: RecordQueue, too_large: bool) -> bool:
        """Count what became of records; whether they are to be dead letters instead."""
        metrics = self._metrics
        if topic == self.topic:
            if metrics:
                metrics.written.inc(0 if too_large else len(done))
            return too_large
        if too_large:
            for lost in done.records():
                name = lost.headers[0][1].decode("utf-8", "replace")
                said = {"mqtt_topic": name, "bytes": len(lost.value), "cure": "raise max.message.bytes"}
                log.error(f"{self._program}_record_lost", **said)
        if metrics and too_large:
            metrics.refused.labels("lost").inc(len(done))
        elif metrics:
            metrics.refused.labels("dead_lettered").inc(sum(TOO_LARGE in record.headers for record in done.records()))
        return False
