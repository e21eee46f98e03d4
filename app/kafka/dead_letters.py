"""Dead letters behind the port: in, rejected records; out, their envelopes on the dead-letter topic, acked.

After a crash the records since the last commit come again, the rejected records among them. So before its first dead
letter of a partition (and after each rebalance) this adapter reads what the topic already holds of these records, and
does not send their dead letters again: a record is dead-lettered once. So is an MQTT message that comes again after a
bridge died which had put it into Kafka: a second record, marked as redelivered (envelope.delivery_mark).
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from app.core.batch.batch import Batch
from app.core.deadletters.envelope import delivery_mark, to_record
from app.core.deadletters.limit import DeadLetterLimit, Excess, LimitCause
from app.core.model.headers import REDELIVERED
from app.core.model.records import Rejected
from app.errors import DeadLetterLimitError
from app.kafka.dead_letter_reader import DeadLetterTail, RecentDeadLetters, digest
from app.kafka.messages import OutgoingMessage
from app.kafka.producer import Producer

Words = Callable[[Excess, Batch], str]

MARKS_MAX = 50_000  # per partition, 5 MB; what a bridge gets again was sent a moment before


class KafkaDeadLetters:
    """Sends dead letters to the partition with the source's number, when the topic has one; else the key decides."""

    def __init__(
        self,
        producer: Producer,
        topic: str,
        tail: DeadLetterTail,
        limit: DeadLetterLimit | None = None,
        words: Words | None = None,
    ) -> None:
        """`words` say what is too many, and what an operator does; by default those of a worker."""
        self._producer, self._topic, self._tail, self._limit = producer, topic, tail, limit
        self._words: Words = words or _words
        self._partitions = 0
        self._resumed: set[tuple[str, int]] = set()
        self._recent: dict[tuple[str, int, int], RecentDeadLetters] = {}

    async def send(self, batch: Batch, rejected: Sequence[Rejected]) -> None:
        """Return once Kafka has acked an envelope for every rejected record of `batch`.

        Raises TransientError when interrupted first, DeadLetterLimitError instead of sending any when the limit is
        exceeded.
        """
        if not rejected:
            return
        self._partitions = self._partitions or await self._producer.partitions(self._topic)
        partition = batch.partition
        target = partition if partition < self._partitions else None
        recent = await self._recent_of(batch, target)
        now = datetime.now(UTC).isoformat()
        fresh = [one for one in rejected if not _is_there(one.record, recent)]
        self._check(batch, rejected, fresh, recent)
        outgoing = []
        for one in fresh:
            key, value, headers = to_record(one, batch.topic, partition, now)
            outgoing.append(OutgoingMessage(key, value, headers, target))
        await self._producer.send(self._topic, outgoing)

    def _check(
        self, batch: Batch, rejected: Sequence[Rejected], fresh: Sequence[Rejected], recent: RecentDeadLetters
    ) -> None:
        if self._limit is None or not fresh:
            return
        source = (batch.topic, batch.partition)
        if source not in self._resumed:
            self._resumed.add(source)
            self._limit.resume(_right_before(fresh[0].record.offset, recent))
        records = batch.records
        if len(fresh) < len(rejected):  # a dead letter that is there already is no further one, nor a good record
            there = {one.record.offset for one in rejected} - {one.record.offset for one in fresh}
            records = [record for record in records if record.offset not in there]
        excess = self._limit.check(records, fresh)
        if excess:
            raise DeadLetterLimitError(self._words(excess, batch))

    async def _recent_of(self, batch: Batch, target: int | None) -> RecentDeadLetters:
        key = (batch.topic, batch.partition, batch.epoch)
        if key not in self._recent:
            partitions = range(self._partitions) if target is None else [target]
            self._recent = {k: v for k, v in self._recent.items() if k[2] == batch.epoch}
            self._recent[key] = await self._tail.read(batch.topic, batch.partition, partitions, batch.first_offset)
        recent = self._recent[key]
        if len(recent.marks) > MARKS_MAX:
            recent.marks.clear()
        return recent


def _right_before(offset: int, recent: RecentDeadLetters) -> Iterator[LimitCause]:
    """The causes of the dead letters whose records come right before `offset`, without a gap."""
    while (cause := recent.causes.get(offset := offset - 1)) is not None:
        yield cause


def _words(excess: Excess, batch: Batch) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(excess.reasons.items(), key=lambda x: -x[1]))
    sample = excess.sample
    return (
        f"too many dead letters: {excess.rule} can never be stored ({reasons}; a device and a user count for a "
        f"part of that at most). None of the batch at {batch.topic}-{batch.partition} offset {batch.first_offset} was "
        f"dead-lettered or committed; offset {sample.record.offset} of the batch: {sample.detail}. Stop the senders, "
        "or install the version that reads these records, and start the worker again: the worker goes on at this "
        "batch. If the records are to be dead letters, start the worker with a higher IOT_DEAD_LETTERS_IN_A_ROW or "
        "IOT_DEAD_LETTERS_RATIO; 0 and 1 mean no limit"
    )


def _is_there(record: Any, recent: RecentDeadLetters) -> bool:
    """Whether the topic holds this record already, or the MQTT message that the record brings again; notes its mark."""
    payload = record.value or b""
    if record.offset in recent.payloads and recent.payloads[record.offset] == digest(payload):
        return True
    mark = delivery_mark(payload, record.headers)
    if mark is None:
        return False
    again = mark in recent.marks and any(name == REDELIVERED for name, _ in record.headers)
    recent.marks.add(mark)
    return again
