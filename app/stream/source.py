"""A Faust stream as a Source: in, the agent's stream of batch events; out, batches that carry their ack."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from app.core.model.records import Record
from app.stream.batches import BatchMessage
from app.stream.transport import BatchConsumer


class FaustBatch:
    """One batch of records of a partition (app.core.batch.batch.Batch)."""

    __slots__ = (
        "_consumer",
        "_event",
        "_stream",
        "epoch",
        "first_offset",
        "next_offset",
        "partition",
        "records",
        "topic",
    )

    def __init__(self, stream: Any, event: Any, consumer: BatchConsumer) -> None:
        message: BatchMessage = event.message
        consumer.reader.taken_up(message)
        self._stream, self._event, self._consumer = stream, event, consumer
        self.topic: str = message.topic
        self.partition: int = message.partition
        self.first_offset = message.first_offset
        self.next_offset = message.next_offset
        self.epoch = message.epoch
        self.records: Sequence[Record] = message.value

    def current(self) -> bool:
        """False once a seek or rebalance has made this batch someone else's; it must then be dropped un-acked."""
        return self._consumer.current(self._event.message)

    async def ack(self) -> None:
        """Let the offset be committed with the next commit."""
        await self._stream.ack(self._event)


class FaustSource:
    """Batches of the agent's stream, un-acked (`stream.noack()`); stale ones are left out."""

    def __init__(self, stream: Any, consumer: BatchConsumer) -> None:
        self._stream = stream.noack()
        self._consumer = consumer

    async def batches(self) -> AsyncIterator[FaustBatch]:
        """Yield batches as they come; those of one partition in offset order, without a gap."""
        async for event in self._stream.events():
            batch = FaustBatch(self._stream, event, self._consumer)
            if batch.current():
                yield batch
