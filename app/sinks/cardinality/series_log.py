"""The series of a sink on a compacted topic of its own, so that a restart forgets none: new series in; all series out.

Reading the topic further gives the series that other processes of the same sink have admitted.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.errors import TransientError
from app.kafka.access import Access, start
from app.kafka.close_clients import close_consumer
from app.kafka.messages import OutgoingMessage
from app.kafka.producer import Producer
from app.kafka.topics import CHANGELOG, TopicSpec, create
from app.settings import Settings
from app.sinks.cardinality.limits import SeriesId

KNOWN = b"1"  # the value of a series; a tombstone removes the series at the next start
SEPARATOR = "\0"  # in no id and no field
READ_SECONDS = 30.0  # limit of one read to the end
ROUND = 5_000


def series_topic(settings: Settings, sink: str) -> TopicSpec:
    """The topic of a sink's series."""
    return TopicSpec(f"{settings.group_id}-{sink}-series", 1, {**CHANGELOG, "min.compaction.lag.ms": "60000"})


class SeriesLog:
    """Reads and writes the topic; connects on first use. Raises the errors of Kafka's clients in an outage of Kafka."""

    def __init__(self, settings: Settings, kafka: Access, sink: str, stop: asyncio.Event) -> None:
        self._kafka, self._topic = kafka, series_topic(settings, sink)
        self._replication = settings.kafka_replication_factor
        self._producer = Producer(kafka, f"{settings.sink_client_id}-{sink}-series", stop)
        self._consumer: Any = None
        self._reading = asyncio.Lock()

    async def read(self, know: Callable[[SeriesId], None]) -> None:
        """Call `know` with each series written since the last call; the first call reads all series.

        Creates the topic if it is missing. Raises TransientError, PermanentError and KafkaError; the next call resumes
        at the same position.
        """
        tp = TopicPartition(self._topic.name, 0)
        try:
            async with self._reading, asyncio.timeout(READ_SECONDS):
                if self._consumer is None:
                    self._consumer = await self._connected(tp)
                self._consumer.resume(tp)
                end = (await self._consumer.end_offsets([tp]))[tp]
                while await self._consumer.position(tp) < end:
                    for record in (await self._consumer.getmany(tp, timeout_ms=500, max_records=ROUND)).get(tp, ()):
                        if series := _series(record):
                            know(series)
                    await asyncio.sleep(0)
                self._consumer.pause(tp)  # else the client keeps fetching
        except TimeoutError:
            raise TransientError(f"{self._topic.name} cannot be read to its end in {READ_SECONDS:g} s") from None

    async def write(self, fresh: Sequence[SeriesId]) -> None:
        """Return once Kafka has acknowledged the series. Raises TransientError when stopped first."""
        messages = [OutgoingMessage(_key(one), KNOWN, partition=0) for one in fresh]
        await self._producer.send(self._topic.name, messages)

    async def close(self) -> None:
        """Close the connections; safe to call twice."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_consumer(consumer)
        await self._producer.stop()

    async def _connected(self, tp: TopicPartition) -> Any:
        await create(self._kafka, [self._topic], self._replication)
        consumer = AIOKafkaConsumer(**self._kafka.options, enable_auto_commit=False)
        try:
            await start(consumer, self._kafka)
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
        except BaseException:
            await close_consumer(consumer)
            raise
        return consumer


def _key(series: SeriesId) -> bytes:
    return SEPARATOR.join(series).encode("utf-8", "surrogatepass")


def _series(record: Any) -> SeriesId | None:
    """The series of the record; None for a record of another writer, which is not a series."""
    parts = (record.key or b"").decode("utf-8", "replace").split(SEPARATOR)
    return SeriesId(*parts) if record.value is not None and len(parts) == 3 else None
