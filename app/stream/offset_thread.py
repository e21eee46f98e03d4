"""What is asked of Kafka about offsets, by the thread that talks to it: positions, first and last offsets."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from copy import copy
from typing import Any, TypeVar

import structlog
from aiokafka.consumer.fetcher import READ_UNCOMMITTED
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from app.stream.fetcher import told_of
from app.stream.rebalance.start_position import Extent

log = structlog.get_logger()
T = TypeVar("T")

RETRY_SECONDS = 1.0
ASK_SECONDS = 10.0  # the watchdog asks again soon


async def log_ends(consumer: Any, tps: Collection[TopicPartition]) -> Mapping[TP, int]:
    """Where the logs end, whatever the client may read of them: with what transactions that are open have written.

    A commit may lie behind the last stable offset, where end_offsets() ends, and not behind this end.
    """
    uncommitted = copy(consumer._fetcher)
    uncommitted._isolation_level = READ_UNCOMMITTED
    ends: Mapping[TP, int] = await uncommitted.end_offsets(tps, consumer._request_timeout_ms)
    return ends


class OffsetThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's thread that answers questions about offsets, and waits out an outage where it must."""

    async def extents(self, topic: str) -> Mapping[TP, Extent]:
        """What there is of every assigned partition of `topic`; waits out an outage."""
        found: Mapping[TP, Extent] = await self.call_thread(self._extents, topic)
        return found

    async def rejoin(self) -> None:
        """Let the group rebalance: all positions and states are looked up anew."""
        await self.call_thread(self._rejoin)

    def highwater(self, tp: TP) -> int | None:
        """Where the log ended when it was fetched from last; None before that, and when the partition is not ours."""
        state = told_of(self._ensure_consumer(), tp)
        end: int | None = state and state.highwater
        return end

    async def reached(self, tp: TP) -> int | None:
        """The offset the client reads next; None while that is looked for, and when the partition is not ours."""
        found: int | None = await self.call_thread(self._reached, tp)
        return found

    async def seek_to(self, offsets: Mapping[TP, int], rebalances: int) -> Collection[TP]:
        """Seek where the partition is ours and no rebalance has begun since number `rebalances`; returns those."""
        found: Collection[TP] = await self.call_thread(self._seek_to, offsets, rebalances)
        return found

    async def ends(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        """End offsets. Raises KafkaError or TimeoutError within 10 s."""
        found: Mapping[TP, int] = await self.call_thread(self._ends, list(tps))
        return found

    async def log_ends(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        """End offsets of the logs, with what open transactions have written. Raises as `ends` does."""
        found: Mapping[TP, int] = await self.call_thread(self._log_ends, list(tps))
        return found

    async def starts(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        """First offsets kept. Raises KafkaError or TimeoutError within 10 s."""
        found: Mapping[TP, int] = await self.call_thread(self._starts, list(tps))
        return found

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """First offsets; waits out an outage (Faust's recovery asks)."""
        found: Mapping[TP, int] = await self.call_thread(self._earliest_offsets, partitions)
        return found

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing. Faust's own look for stuck partitions asserts that each has a position, which one whose records
        retention has deleted has not until it is found again, and that ended the worker. app/worker/watchdog.py looks.
        """

    async def _earliest_offsets(self, partitions: Iterable[TP]) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        return await self._insist(lambda: consumer.beginning_offsets(partitions))

    async def _highwaters(self, partitions: Iterable[TP]) -> Mapping[TP, int]:
        """End offsets; waits out an outage (Faust's recovery asks)."""
        consumer = self._ensure_consumer()
        return await self._insist(lambda: consumer.end_offsets(partitions))

    async def _ends(self, tps: list[TP]) -> Mapping[TP, int]:
        async with asyncio.timeout(ASK_SECONDS):
            ends: Mapping[TP, int] = await self._ensure_consumer().end_offsets(tps)
        return ends

    async def _log_ends(self, tps: list[TP]) -> Mapping[TP, int]:
        async with asyncio.timeout(ASK_SECONDS):
            return await log_ends(self._ensure_consumer(), tps)

    async def _starts(self, tps: list[TP]) -> Mapping[TP, int]:
        async with asyncio.timeout(ASK_SECONDS):
            starts: Mapping[TP, int] = await self._ensure_consumer().beginning_offsets(tps)
        return starts

    async def _reached(self, tp: TP) -> int | None:
        state = told_of(self._ensure_consumer(), tp)
        return int(state.position) if state is not None and state.has_valid_position else None

    async def _seek_to(self, offsets: Mapping[TP, int], rebalances: int) -> Collection[TP]:
        """In the client's own thread and in one step, so that no poll moves the position in between."""
        consumer = self._ensure_consumer()
        ours = consumer.assignment() if self.app.rebalancing_count == rebalances else frozenset()
        sought = [tp for tp in offsets if tp in ours]
        for tp in sought:
            consumer.seek(TopicPartition(*tp), offsets[tp])
        return sought

    async def _rejoin(self) -> None:
        consumer = self._ensure_consumer()
        await consumer._client.force_metadata_update()  # whoever leads the group goes by what it knows of the topics
        consumer._coordinator.request_rejoin()

    async def _extents(self, topic: str) -> Mapping[TP, Extent]:
        consumer, rebalances = self._ensure_consumer(), self.app.rebalancing_count
        tps = [tp for tp in consumer.assignment() if tp.topic == topic]
        if not tps:
            return {}
        starts, ends, committed = await self._insist(
            lambda: asyncio.gather(
                consumer.beginning_offsets(tps),
                log_ends(consumer, tps),
                consumer._coordinator.fetch_committed_offsets(tps),
            )
        )
        if self.app.rebalancing_count != rebalances:
            raise IllegalStateError("the group rebalances again")
        found = {}
        for tp in tps:
            offset, metadata = (committed[tp].offset, committed[tp].metadata) if tp in committed else (None, "")
            found[TP(tp.topic, tp.partition)] = Extent(starts[tp], ends[tp], offset, metadata or "")
        return found

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until Kafka answers. Raises IllegalStateError when the group rebalances meanwhile."""
        rebalances = self.app.rebalancing_count
        while True:
            try:
                return await ask()
            except IllegalStateError:
                raise
            except (KafkaError, TimeoutError) as error:
                log.warning("waiting_for_kafka", step="recovery", error=repr(error))
            await asyncio.sleep(RETRY_SECONDS)
            if self.app.rebalancing_count != rebalances:
                raise IllegalStateError("the group rebalances again")
