"""The group of the workers and the input topic, asked of Kafka: in, the settings; out, a GroupAnswer."""

import asyncio
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app.kafka.access import access, start
from app.kafka.close_clients import close_consumer
from app.kafka.group_state import assigned_partitions
from app.kafka.record_times import LOOK_OPTIONS, times_of
from app.settings import Settings
from app.top.model.answers import GroupAnswer

TIMEOUT_MS = 5_000
SECONDS = 15.0  # for all questions of one look; times of records alone may take 10


class GroupSource:
    """Asks Kafka without joining the group, which does not notice."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError or OSError when a file of the settings (TLS, password) cannot be used."""
        self._kafka, self._group, self._topic = access(settings), settings.group_id, settings.kafka_topic
        self._admin: AIOKafkaAdminClient | None = None
        self._consumer: AIOKafkaConsumer | None = None

    async def ask(self, times: bool) -> GroupAnswer:
        """Look once; with `times` also when the oldest record that waits was written, which costs a read of each
        partition. `problem` says why where Kafka does not answer within SECONDS. Never raises for an outage.
        """
        try:
            async with asyncio.timeout(SECONDS):
                return await self._look(times)
        except (KafkaError, OSError) as error:
            await self.close()
            words = str(error) or type(error).__name__
            return GroupAnswer(time.monotonic(), problem=f"Kafka at {self._kafka.servers}: {words}")

    async def close(self) -> None:
        """Drop the connections; safe before the first look, and twice."""
        admin, self._admin = self._admin, None
        consumer, self._consumer = self._consumer, None
        if admin is not None:
            await admin.close()
        if consumer is not None:
            await close_consumer(consumer)

    async def _look(self, times: bool) -> GroupAnswer:
        admin, consumer = await self._clients()
        if self._topic not in await admin.list_topics():  # a broker may make a topic that is asked for by name
            return GroupAnswer(time.monotonic(), problem=f"Kafka has no topic {self._topic}")
        described = await admin.describe_topics([self._topic])
        tps = [TopicPartition(self._topic, one["partition"]) for one in described[0]["partitions"]]
        committed = await admin.list_consumer_group_offsets(self._group)
        state, members, owners = await self._members(admin)
        starts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        at = time.monotonic()
        positions = {tp: max(starts[tp], committed[tp].offset if tp in committed else 0) for tp in tps}
        waiting = {tp: position for tp, position in positions.items() if position < ends[tp]}
        since = await times_of(consumer, waiting) if times and waiting else {}
        return GroupAnswer(
            at,
            self._group,
            state,
            members,
            _numbered(ends),
            _numbered(starts),
            {tp.partition: one.offset for tp, one in committed.items() if tp.topic == self._topic and one.offset >= 0},
            owners,
            {tp.partition: milliseconds / 1000 for tp, milliseconds in since.items()},
        )

    async def _clients(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        if self._admin is None:
            self._admin = AIOKafkaAdminClient(**self._kafka.options, request_timeout_ms=TIMEOUT_MS)
            await start(self._admin, self._kafka)
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(
                **self._kafka.options, **LOOK_OPTIONS, enable_auto_commit=False, request_timeout_ms=TIMEOUT_MS
            )
            await start(self._consumer, self._kafka)
        return self._admin, self._consumer

    async def _members(self, admin: AIOKafkaAdminClient) -> tuple[str, int, dict[int, str]]:
        """State, number of members, and who has each partition."""
        (answer,) = await admin.describe_consumer_groups([self._group])
        ((_, _, state, _, _, found, *_),) = answer.groups
        owners = {
            number: f"{client}@{host.lstrip('/')}"
            for _, client, host, _, assigned, *_ in found
            for number in assigned_partitions(assigned, self._topic)
        }
        return state, len(found), owners


def _numbered(offsets: Mapping[TopicPartition, int]) -> dict[int, int]:
    return {tp.partition: offset for tp, offset in offsets.items()}
