"""Reading of a topic without membership in a group: in, start offsets; out, records.

No group rebalances, and only explicit commits of the reader are made.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.errors import PermanentError, TransientError
from app.kafka.access import KAFKA_ERRORS, Access, start
from app.kafka.close_clients import close_consumer
from app.kafka.topics import existing

ASK_MS = 10_000
FETCH_BYTES = 1 << 20  # maximum bytes fetched ahead for each partition
TAKEN = 500  # maximum records per yield
COMMIT_SECONDS = 15.0
IDLE_SECONDS = 5.0  # seconds without a record, after which a request checks that Kafka answers

Offsets = Mapping[TopicPartition, int]


@asynccontextmanager
async def record_log(
    kafka: Access, topic: str, *, committed: bool = True, group: str | None = None
) -> AsyncIterator["RecordLog"]:
    """Open a topic for reading. `committed`: only records of committed transactions, as in a worker. `group`: the group
    for commits of offsets, without membership; None: no commits.

    Raises TransientError when Kafka is away, also during the reading, and PermanentError for an unknown topic.
    """
    try:
        async with asyncio.timeout(ASK_MS / 1000):
            count = (await existing(kafka, [topic])).get(topic, 0)
    except TimeoutError:
        raise TransientError(f"Kafka at {kafka} does not answer within {ASK_MS / 1000:g} s") from None
    if not count:
        raise PermanentError(
            f"there is no topic {topic}: look at the settings, or make the topic: iot-stream topics create"
        )
    client = AIOKafkaConsumer(
        **kafka.options, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest",
        isolation_level="read_committed" if committed else "read_uncommitted",
        max_partition_fetch_bytes=FETCH_BYTES, fetch_max_wait_ms=200, request_timeout_ms=ASK_MS,
    )  # fmt: skip
    try:
        await start(client, kafka)
        yield RecordLog(client, [TopicPartition(topic, number) for number in range(count)])
    except KAFKA_ERRORS as error:
        raise TransientError(f"cannot read {topic} from Kafka at {kafka}: {error or type(error).__name__}") from error
    finally:
        await close_consumer(client)


class RecordLog:
    """The partitions of one topic. Methods raise KAFKA_ERRORS."""

    def __init__(self, client: AIOKafkaConsumer, tps: Sequence[TopicPartition]) -> None:
        self.client, self.tps = client, tps

    async def ends(self) -> Offsets:
        """The offset after the last record of each partition."""
        found: Offsets = await self.client.end_offsets(self.tps)
        return found

    async def starts(self) -> Offsets:
        """The first offset of each partition; for an empty partition its end."""
        found: Offsets = await self.client.beginning_offsets(self.tps)
        return found

    async def since(self, ms: int, ends: Offsets) -> Offsets:
        """The offset of the first record of each partition that was written at `ms` (milliseconds since 1970) or later;
        the offset in `ends` for a partition without such a record.
        """
        found = await self.client.offsets_for_times(dict.fromkeys(self.tps, max(0, ms)))
        return {tp: at.offset if (at := found.get(tp)) else ends[tp] for tp in self.tps}

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Commit (offset, metadata) for the group of `record_log`. Raises TransientError when Kafka does not take the
        offsets within COMMIT_SECONDS.
        """
        if not offsets:
            return
        if not set(offsets) <= self.client.assignment():
            self.client.assign(list(offsets))
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                await self.client.commit(dict(offsets))
        except TimeoutError:
            raise TransientError(f"Kafka has not taken offsets for {COMMIT_SECONDS:g} s") from None

    async def follow(self, begin: Offsets, until: Offsets | None = None) -> AsyncIterator[Sequence[Any]]:
        """Yield records from the offsets `begin` on as they come, at most TAKEN at a time, in order per partition; the
        reading ends when each partition is at `until`, with None never.
        """
        self.client.assign(list(begin))
        for tp, offset in begin.items():
            self.client.seek(tp, offset)
        heard = time.monotonic()
        while until is None or [tp for tp in begin if await self.client.position(tp) < until[tp]]:
            found = await self.client.getmany(timeout_ms=300, max_records=TAKEN)
            now = time.monotonic()
            if any(found.values()):
                heard = now
            elif now - heard > IDLE_SECONDS:
                await self.ends()  # raises where the client itself would wait silently
                heard = now
            for tp, records in found.items():
                yield [one for one in records if until is None or one.offset < until[tp]]
