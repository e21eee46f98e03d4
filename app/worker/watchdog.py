"""Ends the process when a partition is stuck for a reason that waiting cannot mend."""

import asyncio
import time
from collections.abc import Mapping

import structlog
from aiokafka.errors import KafkaError
from faust.types import TP

from app.errors import StuckOffsetError
from app.stream.batches import BatchMessage
from app.stream.transport import BatchConsumer
from app.worker.waiting_time import WaitingTimes

log = structlog.get_logger()

# The question for the ends of the log waits behind the poll under way: 1.3 s of an idle worker.
LOOK_SECONDS = 2.0


class Watchdog:
    """Asks every few seconds whether each partition moves; a partition held by an outage counts as moving.

    Stuck is: records are waiting in Kafka, none of the partition's batches is in work, and no batch arrived
    or was acked, look after look, for `limit` seconds. A restart then reads again from the committed offset.
    Only time between looks counts: a record that has just come to a partition idle for an hour, or a process that
    was suspended, is not stuck yet.
    """

    def __init__(self, limit: float) -> None:
        """`limit`: seconds without progress (IOT_WATCHDOG_SECONDS)."""
        self._limit = limit
        self._interval = min(2.0, limit / 4)
        self._still: dict[TP, tuple[float, float]] = {}  # last progress, and for how long there was no other
        self.lag: Mapping[TP, int] = {}  # records after the last record done, as of the last look
        self.times = WaitingTimes()  # for how long the records have waited

    async def watch(self, consumer: BatchConsumer) -> None:
        """Look every few seconds while records flow, until cancelled. Raises StuckOffsetError naming the partition and
        offset.
        """
        looked = time.monotonic()
        while True:
            await asyncio.sleep(self._interval)
            passed, looked = time.monotonic() - looked, time.monotonic()
            if not consumer.flow_active:
                self._still.clear()
                continue
            try:
                self.lag = await self._measure_lag(consumer)
            except (KafkaError, TimeoutError) as error:  # an outage is waited out by the parts that it concerns
                log.warning("kafka_does_not_answer", error=repr(error))
                self._still.clear()
                continue
            self.check(self.lag, consumer.flight.heads(), consumer.reader.last_progress, passed)
            await self._doubt(consumer)
            for tp, records in self.lag.items():
                if records < 0:
                    what = f"{tp.topic}-{tp.partition} ends {-records} records before what is done"
                    await consumer.seek_back.doubt(what)

    def check(
        self, lag: Mapping[TP, int], heads: Mapping[TP, BatchMessage], progress: Mapping[TP, float], passed: float
    ) -> None:
        """Take one look, `passed` seconds after the look before: `lag` are records that wait, `heads` the batches that
        are worked on first, `progress` when each partition moved last (monotonic).

        Raises StuckOffsetError when a partition with records waiting has not moved for the limit.
        """
        waiting = {
            tp: progress[tp]
            for tp, records in lag.items()
            if records > 0 and tp in progress and not (tp in heads and heads[tp].in_work)
        }
        step = min(passed, self._interval + LOOK_SECONDS)
        before = self._still
        self._still = {
            tp: (moved, before[tp][1] + step if tp in before and before[tp][0] == moved else 0.0)
            for tp, moved in waiting.items()
        }
        for tp, (_, still) in self._still.items():
            if still > self._limit:
                head = heads.get(tp)
                where = f"batch at offset {head.first_offset} is nowhere in work" if head else "nothing is fetched"
                raise StuckOffsetError(f"{tp.topic}-{tp.partition}: no progress for {still:.0f} s, {where}")

    async def _doubt(self, consumer: BatchConsumer) -> None:
        """Offsets that hold no records (markers of transactions) count as waiting until somebody has looked."""
        heads = consumer.flight.heads()
        for tp, (_, still) in self._still.items():
            if tp not in heads and still >= self._interval:
                await consumer.seek_back.look_again(tp)

    async def _measure_lag(self, consumer: BatchConsumer) -> dict[TP, int]:
        done, epoch = consumer.flight.done_offsets(), consumer.flight.epoch
        ends = await consumer.ends()
        if epoch == consumer.flight.epoch:
            self.times.look(epoch, ends, time.monotonic())
        return {tp: end - (done.get(tp) or 0) for tp, end in ends.items()}
