"""A consumer group of the alert topic: records by partition, committed by hand once all before are delivered."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.core.batch.commit_prefix import CommitPrefix
from app.core.model.arrival import arrived_ms
from app.kafka.access import access, start
from app.kafka.close_clients import close_consumer
from app.kafka.group_coordinator import coordinator_of, limit_sync
from app.settings import Settings

log = structlog.get_logger()

BATCH = 2000
METADATA_MS = 10_000  # a topic created after the start is found this soon
MAX_POLL_MS = 24 * 3600 * 1000  # an outage of the receiver is waited out between two polls


class GroupConsumer:
    """One member of the group `<group>-<name>`. Connects with the first `take`."""

    def __init__(self, settings: Settings, name: str, client_id: str) -> None:
        self._settings, self._access = settings, access(settings)
        self._group, self._client_id = f"{settings.group_id}-{name}", client_id
        self._consumer: Any = None
        self._taken: dict[TopicPartition, CommitPrefix] = {}
        self._committed: dict[TopicPartition, int] = {}

    def waiting(self) -> float:
        """Seconds since the oldest record that is taken and not done was written; 0 when there is none."""
        oldest = [prefix.oldest for prefix in self._taken.values() if prefix.oldest is not None]
        return max(0.0, time.time() - min(oldest)) if oldest else 0.0

    def lag(self) -> int:
        """Records that are not done, of the partitions that were read from, as Kafka's last answer had them."""
        ours = self._consumer.assignment() if self._consumer is not None else ()
        lag = 0
        for partition, prefix in self._taken.items():
            end = self._consumer.highwater(partition) if partition in ours else None
            if end is not None and prefix.next_offset is not None:
                lag += max(0, end - prefix.next_offset)
        return lag

    @property
    def open(self) -> int:
        """How many records cannot be committed yet."""
        return sum(map(len, self._taken.values()))

    @property
    def connected(self) -> bool:
        """Whether the consumer is a member of its group."""
        return self._consumer is not None

    async def take(self) -> Mapping[TopicPartition, Sequence[Any]]:
        """Records by partition, none after half a second of silence; `done` is due for each. Raises KAFKA_ERRORS.

        A consumer that fails is replaced by the next call, as some of its errors last.
        """
        if self._consumer is None:
            self._consumer = await self._subscribe()
        try:
            taken: Mapping[TopicPartition, Sequence[Any]] = await self._consumer.getmany(
                timeout_ms=500, max_records=BATCH
            )
        except KafkaError:
            failed, self._consumer = self._consumer, None
            await close_consumer(failed)
            raise
        now_ms = int(time.time() * 1000)
        for partition, records in taken.items():
            prefix = self._taken.setdefault(partition, CommitPrefix())
            for record in records:
                prefix.take(record.offset, arrived_ms(record, now_ms) / 1000)
        return taken

    def done(self, partition: TopicPartition, offset: int) -> None:
        """The record is delivered, or contains nothing to deliver."""
        if prefix := self._taken.get(partition):
            prefix.done(offset)

    async def commit(self) -> None:
        """Commit the prefix of each partition in which all records are done. A commit that fails costs repeats."""
        if self._consumer is None:
            return
        assigned = self._consumer.assignment()
        for partition in [one for one in self._taken if one not in assigned]:
            del self._taken[partition]  # another member has the partition
            self._committed.pop(partition, None)
        moved = {
            partition: prefix.position
            for partition, prefix in self._taken.items()
            if prefix.position is not None and prefix.position != self._committed.get(partition)
        }
        if not moved:
            return
        try:
            await self._consumer.commit(moved)
        except KafkaError as error:
            log.warning("notifier_commit_failed", partitions=[one.partition for one in moved], error=repr(error))
        else:
            self._committed |= moved

    async def close(self) -> None:
        """Leave the group."""
        if self._consumer is not None:
            await close_consumer(self._consumer)

    async def _subscribe(self) -> Any:
        consumer = AIOKafkaConsumer(
            self._settings.kafka_alerts_topic,
            **self._access.options,
            group_id=self._group,
            client_id=self._client_id,
            group_instance_id=self._client_id,  # after a kill the program goes on at once, not after 10 s
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            metadata_max_age_ms=METADATA_MS,
            max_poll_interval_ms=MAX_POLL_MS,
        )
        try:
            await start(consumer, self._access)
        except BaseException:
            await close_consumer(consumer)
            raise
        limit_sync(coordinator_of(consumer))
        return consumer
