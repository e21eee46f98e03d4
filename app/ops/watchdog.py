"""Ends the process when a partition is stuck for a reason that waiting cannot mend."""

import asyncio
import time
from collections.abc import Mapping

import structlog
from aiokafka.errors import KafkaError
from faust.types import TP

from app.adapters.batches import BatchMessage
from app.adapters.transport import BatchConsumer
from app.errors import StuckOffsetError

log = structlog.get_logger()


class Watchdog:
    """Asks every few seconds whether each partition moves; a partition held by an outage counts as moving.

    Stuck is: records are waiting in Kafka, none of the partition's batches is in work, and neither a batch arrived
    nor one was acked for `limit` seconds. A restart then reads again from the committed offset.
    """

    def __init__(self, topic: str, limit: float) -> None:
        self._topic, self._limit = topic, limit
        self.lag: Mapping[TP, int] = {}  # records after the last one done, as of the last look

    async def watch(self, consumer: BatchConsumer) -> None:
        """Run until cancelled. Raises StuckOffsetError naming the partition and offset."""
        while True:
            await asyncio.sleep(min(2.0, self._limit / 4))
            if consumer.flow_active:
                try:
                    self.lag = await self._measure_lag(consumer)
                except (KafkaError, TimeoutError) as error:  # an outage is waited out by whoever it concerns
                    log.warning("kafka_does_not_answer", error=repr(error))
                    continue
                self.check(self.lag, consumer.flight.heads(), consumer.last_progress, time.monotonic())
                await self._doubt(consumer)

    def check(
        self, lag: Mapping[TP, int], heads: Mapping[TP, BatchMessage], progress: Mapping[TP, float], now: float
    ) -> None:
        """Raise StuckOffsetError when a partition with records waiting has not moved within the limit."""
        for tp, waiting in lag.items():
            head = heads.get(tp)
            if waiting <= 0 or (head is not None and head.in_work):
                continue
            idle = now - progress.get(tp, now)
            if idle > self._limit:
                where = f"batch at offset {head.first_offset} is nowhere in work" if head else "nothing is fetched"
                raise StuckOffsetError(f"{tp.topic}-{tp.partition}: no progress for {idle:.0f} s, {where}")

    async def _doubt(self, consumer: BatchConsumer) -> None:
        """Offsets that hold no records (markers of transactions) count as waiting until somebody has looked."""
        heads, now = consumer.flight.heads(), time.monotonic()
        for tp, waiting in self.lag.items():
            if waiting > 0 and tp not in heads and now - consumer.last_progress.get(tp, now) > self._limit / 4:
                await consumer.look_again(tp)

    async def _measure_lag(self, consumer: BatchConsumer) -> dict[TP, int]:
        done = consumer.flight.done_offsets()
        tps = [tp for tp in consumer.assignment() if tp.topic == self._topic]
        if not tps:
            return {}
        ends = await consumer.highwaters(*tps)
        return {
            TP(tp.topic, tp.partition): end - (done.get(TP(tp.topic, tp.partition)) or 0) for tp, end in ends.items()
        }
