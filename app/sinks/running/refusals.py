"""Refused records -> dead letters: records with the destination's reasons in; Kafka's ack of all dead letters out."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from app.core.batch.batch import Batch
from app.core.deadletters.limit import DeadLetterLimit, Excess
from app.core.model.records import Reason, Record, Rejected, sink_stage
from app.kafka.access import Access
from app.kafka.dead_letter_reader import DeadLetterTail
from app.kafka.dead_letters import KafkaDeadLetters
from app.kafka.producer import Producer
from app.ports import Lease
from app.settings import Settings
from app.sinks.record import SinkRecord

DETAIL = 1_000  # most characters of a destination's reason


class _RefusedRun:
    """Refused records of one partition, as a batch for KafkaDeadLetters."""

    def __init__(self, topic: str, partition: int, records: Sequence[Record], begin: int, epoch: int) -> None:
        self.topic, self.partition, self.records, self.epoch = topic, partition, records, epoch
        self.first_offset, self.next_offset = min(begin, records[0].offset), records[-1].offset + 1

    def current(self) -> bool:
        return True

    async def ack(self) -> None:
        """Nothing to do: the runner commits."""


class SinkDeadLetters:
    """The dead letters of one sink. A record has at most one dead letter per sink, however often the record is read."""

    def __init__(self, settings: Settings, kafka: Access, sink: str, stop: asyncio.Event, lease: Lease) -> None:
        """`stop` ends waits for Kafka."""
        self._producer = Producer(kafka, f"{settings.sink_client_id}-{sink}-dlq", stop, lease=lease)
        self._sink, self._topic = sink, settings.kafka_topic
        self._limit = DeadLetterLimit(
            settings.dead_letters_in_a_row,
            settings.dead_letters_ratio,
            settings.dead_letters_window,
            settings.dead_letters_user_share,
        )
        tail = DeadLetterTail(kafka, settings.kafka_dlq_topic, stop, sink)
        self._letters = KafkaDeadLetters(self._producer, settings.kafka_dlq_topic, tail, self._limit, self._too_many)

    async def send(self, refused: Sequence[tuple[SinkRecord, str]], begins: Mapping[int, int], epoch: int) -> None:
        """Return once Kafka has a dead letter of each record. `epoch` counts rebalances, after which the dead-letter
        topic is read again for existing dead letters, of records from `begins` on, {partition: offset}: a sink may
        refuse a record after records behind it.

        Raises TransientError when stopped first, and DeadLetterLimitError, before any of the partition is sent, when
        its records exceed the limit.
        """
        parts: dict[int, list[tuple[Any, str]]] = {}
        for record, why in refused:
            parts.setdefault(record.partition, []).append((record.source, why))
        for partition, found in parts.items():
            found.sort(key=lambda one: int(one[0].offset))
            begin = begins.get(partition, found[0][0].offset)
            run = _RefusedRun(self._topic, partition, [record for record, _ in found], begin, epoch)
            rejected = [Rejected(one, Reason.SINK_REFUSED, sink_stage(self._sink), why[:DETAIL]) for one, why in found]
            await self._letters.send(run, rejected)

    def _too_many(self, excess: Excess, batch: Batch) -> str:
        sample, where = excess.sample, f"{batch.topic}-{batch.partition}"
        return (
            f"the destination of the sink {self._sink} refuses too many records: {excess.rule} (a device and a user "
            "count for a part of it at most). None of these was dead-lettered or committed; offset "
            f"{sample.record.offset} of {where}: {sample.detail}. Fix the destination, and restart the sink, "
            "which resumes there. To dead-letter these records, start the sink with a higher IOT_DEAD_LETTERS_IN_A_ROW "
            "or IOT_DEAD_LETTERS_RATIO; 0 and 1 mean no limit"
        )

    def done(self, records: int, refused: int) -> None:
        """Count completed records, `refused` of them as dead letters."""
        self._limit.done(records, refused)

    async def stop(self) -> None:
        """Close the connection to Kafka; safe to call twice."""
        await self._producer.stop()
