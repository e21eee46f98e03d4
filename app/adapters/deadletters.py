"""Dead letters behind the port: in, rejected records; out, their envelopes on the dead-letter topic, acked.

After a crash the records since the last commit come again, the rejected ones among them. So before its first dead
letter of a partition (and after each rebalance) this adapter reads what the topic already holds of the records in
question, and does not send those again: a record is dead-lettered once.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from app.adapters.dead_letter_tail import DeadLetterTail
from app.adapters.producer import Outgoing, Producer
from app.core.deadletter import to_record
from app.core.model import Rejected
from app.ports import Batch


class KafkaDeadLetters:
    """Sends to the same partition number as the source's, when the topic has it; else the key decides."""

    def __init__(self, producer: Producer, topic: str, tail: DeadLetterTail) -> None:
        self._producer, self._topic, self._tail = producer, topic, tail
        self._partitions = 0
        self._sent_before: dict[tuple[str, int, int], dict[int, bytes]] = {}

    async def send(self, batch: Batch, rejected: Sequence[Rejected]) -> None:
        """Return once Kafka has acked an envelope for every rejected record of `batch`.

        Raises TransientError when told to give up first.
        """
        if not rejected:
            return
        self._partitions = self._partitions or await self._producer.partitions(self._topic)
        partition = batch.partition
        target = partition if partition < self._partitions else None
        before = await self._already_sent(batch, target)
        now = datetime.now(UTC).isoformat()
        outgoing = []
        for one in rejected:
            if one.record.offset in before and before[one.record.offset] == (one.record.value or b""):
                continue
            key, value, headers = to_record(one, batch.topic, partition, now)
            outgoing.append(Outgoing(key, value, headers, target))
        await self._producer.send(self._topic, outgoing)

    async def _already_sent(self, batch: Batch, target: int | None) -> dict[int, bytes]:
        key = (batch.topic, batch.partition, batch.epoch)
        if key not in self._sent_before:
            partitions = range(self._partitions) if target is None else [target]
            self._sent_before = {k: v for k, v in self._sent_before.items() if k[2] == batch.epoch}
            self._sent_before[key] = await self._tail.read(batch.topic, batch.partition, partitions, batch.first_offset)
        return self._sent_before[key]
