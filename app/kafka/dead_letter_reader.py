"""The newest dead letters of a source partition: in, an offset; out, the dead letters from there on, some before."""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from xxhash import xxh3_128_digest

from app.core.deadletters.envelope import DeadLetter, delivery_mark, from_record
from app.core.deadletters.limit import LimitCause, cause_of
from app.core.model.records import Stage, sink_stage
from app.kafka.access import Access, start, wait_out
from app.kafka.close_clients import close_consumer
from app.runtime.interrupt import Interrupt
from app.runtime.retry import log_level

log = structlog.get_logger()

# Read back this many dead letters at first, ten times as many if these do not reach far enough.
STEP = 2_000


class RecentDeadLetters(NamedTuple):
    """What the dead-letter topic holds of a source partition, as far as it was read."""

    payloads: dict[int, bytes]  # digests, by source offset: payloads themselves could take gigabytes
    marks: set[bytes]  # of MQTT messages, see delivery_mark
    causes: dict[int, LimitCause]  # by source offset


def digest(payload: bytes) -> bytes:
    """The digest that stands for a payload in RecentDeadLetters."""
    return xxh3_128_digest(payload)


class DeadLetterTail:
    """Reads the dead-letter topic backwards, in its own short-lived consumer with no group."""

    def __init__(self, kafka: Access, topic: str, interrupt: asyncio.Event, sink: str | None = None) -> None:
        """`sink`: the dead letters of this sink alone; None: those of no sink."""
        self._kafka, self._stage = kafka, None if sink is None else sink_stage(sink)
        self._options: dict[str, Any] = {
            **kafka.options,
            "enable_auto_commit": False,
            "isolation_level": "read_uncommitted",  # somebody else's open transaction would hide ours
            # The client fetches at the log's end before we seek, and would wait there for half a second.
            "fetch_max_wait_ms": 10,
        }
        self._topic, self._interrupt = topic, Interrupt(interrupt)

    async def read(self, topic: str, partition: int, partitions: Iterable[int], first: int) -> RecentDeadLetters:
        """Return the dead letters of (topic, partition): all from source offset `first` on, and the last 2,000 or more.

        `partitions` are the dead-letter partitions that may hold them. Raises TransientError when interrupted.
        """
        tps = [TopicPartition(self._topic, number) for number in partitions]
        read_once = partial(self._read_once, (topic, partition), tps, first)
        return await wait_out(lambda: self._interrupt.race(read_once()), self._failed, self._interrupt)

    def _failed(self, attempts: int, error: BaseException) -> None:
        event = "dead_letters_read_retry"
        log.log(log_level(attempts), event, topic=self._topic, attempt=attempts, error=repr(error))

    async def _read_once(self, source: tuple[str, int], tps: list[TopicPartition], first: int) -> RecentDeadLetters:
        consumer = AIOKafkaConsumer(**self._options)
        try:
            await start(consumer, self._kafka)
            consumer.assign(tps)
            found = RecentDeadLetters({}, set(), {})
            for tp in tps:
                recent = await self._read_back(consumer, tp, source, first)
                found.payloads.update(recent.payloads)
                found.marks.update(recent.marks)
                found.causes.update(recent.causes)
            return found
        finally:
            await close_consumer(consumer)

    async def _read_back(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, source: tuple[str, int], first: int
    ) -> RecentDeadLetters:
        start = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        step = STEP
        while start < end:
            begin = max(start, end - step)
            recent = await self._read_from(consumer, tp, begin, end, source)
            if begin == start or any(offset < first for offset in recent.payloads):
                return _pruned(recent, first)
            step *= 10
        return RecentDeadLetters({}, set(), {})

    async def _read_from(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, begin: int, end: int, source: tuple[str, int]
    ) -> RecentDeadLetters:
        consumer.seek(tp, begin)
        found = RecentDeadLetters({}, set(), {})
        while await consumer.position(tp) < end:
            for record in (await consumer.getmany(tp, timeout_ms=1000)).get(tp, []):
                letter = from_record(record.value, record.headers)
                if letter is None or (letter.source_topic, letter.source_partition) != source:
                    continue
                if self._is_ours(letter):
                    found.payloads[letter.source_offset] = digest(letter.payload)
                    if not letter.replay_count:  # what was put back is not counted
                        found.causes[letter.source_offset] = cause_of(letter.key, letter.headers, letter.reason)
                    if mark := delivery_mark(letter.payload, letter.headers):
                        found.marks.add(mark)
        return found

    def _is_ours(self, letter: DeadLetter) -> bool:
        """A record may have a dead letter of each sink, and one of the worker."""
        if self._stage is None:
            return not letter.stage.startswith(f"{Stage.SINK}:")
        return letter.stage == self._stage


def _pruned(recent: RecentDeadLetters, first: int) -> RecentDeadLetters:
    """The part that is asked for: the records from `first` on, and why the records right before were refused."""
    payloads = {offset: payload for offset, payload in recent.payloads.items() if offset >= first}
    causes = {offset: cause for offset, cause in recent.causes.items() if offset >= first - STEP}
    return RecentDeadLetters(payloads, recent.marks, causes)
