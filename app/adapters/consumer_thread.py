"""The thread that polls Kafka: records as aiokafka decoded them, and the position of each partition."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka.consumer.fetcher import FetchResult
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from app.adapters.positions import Position, choose_position


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's, with one question more: where should each partition be read from?"""

    async def positions(self, topic: str) -> Mapping[TP, Position]:
        """Seek every assigned partition of `topic` to where reading must go on, and say where that is."""
        found: Mapping[TP, Position] = await self.call_thread(self._seek_to_positions, topic)
        return found

    async def reached(self, tp: TP) -> int | None:
        """The offset the client reads next; None when the partition is not ours any more."""
        found: int | None = await self.call_thread(self._reached, tp)
        return found

    async def _reached(self, tp: TP) -> int | None:
        consumer = self._ensure_consumer()
        return int(await consumer.position(tp)) if tp in consumer.assignment() else None

    async def _seek_to_positions(self, topic: str) -> Mapping[TP, Position]:
        consumer = self._ensure_consumer()
        tps = [tp for tp in consumer.assignment() if tp.topic == topic]
        if not tps:
            return {}
        starts = await consumer.beginning_offsets(tps)
        ends = await consumer.end_offsets(tps)
        committed = await asyncio.gather(*(consumer.committed(tp) for tp in tps))
        found = {}
        for tp, offset in zip(tps, committed, strict=True):
            position = choose_position(offset, starts[tp], ends[tp])
            consumer.seek(tp, position.offset)
            found[TP(tp.topic, tp.partition)] = position
        return found

    async def _fetch_records(self, consumer: Any, active_partitions: Any, **options: Any) -> Any:
        _leave_as_decoded(consumer._fetcher, self.consumer.limits.topic)
        return await super()._fetch_records(consumer, active_partitions, **options)


def _leave_as_decoded(fetcher: Any, topic: str) -> None:
    """Hand over the C records of our topic as they are: wrapping each in a ConsumerRecord costs 1 us and 300 bytes.

    What is fetched while a poll waits still comes as ConsumerRecord; both have the attributes of core.model.Record.
    """
    for tp, result in fetcher._records.items():
        if tp.topic == topic and type(result) is FetchResult and result._partition_records is not None:
            result._partition_records._consumer_record = _as_it_is


def _as_it_is(_: Any, record: Any) -> Any:
    return record
