"""The batching Faust transport: in, what aiokafka fetched; out, one event per run of records of a partition.

Stock Faust hands over one record at a time (16k a second) and commits past records it lost at a rebalance. This
transport hands over runs, and commits only a prefix: an offset moves when every batch before it has been acked.
What it leans on in Faust and aiokafka is listed, and checked, in tests/contract/test_faust_internals.py.
"""

import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import faust
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from app.adapters.batches import BatchLimits, BatchMessage, cut
from app.adapters.commits import PrefixConsumer
from app.adapters.consumer_thread import ConsumerThread
from app.adapters.flight import Follow
from app.adapters.lease import SessionLease
from app.adapters.log_book import LogBook
from app.adapters.markers import Markers
from app.adapters.transport_events import TransportEvents


class BatchConsumer(PrefixConsumer):
    """A consumer with batches, a contiguity check and bounded buffers for one topic."""

    transport: "BatchTransport"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.events = self.transport.events
        self._markers = Markers(self.flight)
        self.in_doubt = False  # whether the log is the one that `flight` is about

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- fetch: only partitions with room, cut into batches, each where the last one ended

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield (partition, message): batches for our topic, single records for all others (changelogs)."""
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if not records or self.should_stop or not self.flow_active:
            return  # fetched while the flow stops: whoever resumes it seeks first (perform_seek)
        for raw_tp, run in records.items():
            tp = TP(raw_tp.topic, raw_tp.partition)
            if active is not None and tp not in active:
                continue
            messages = self._batches(tp, run) if tp.topic == self.limits.topic else self._singles(tp, run)
            async for message in messages:
                if not self.flow_active or self.app.consumer_generation_id != generation:
                    return
                yield tp, message

    async def _wait_next_records(self, timeout: float) -> tuple[Any, set[TP] | None]:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        for tp in self._markers.looking:  # between two polls nothing is under way
            again = self._markers.reached(tp, await self._thread.reached(tp))
            if again is not None:
                await self.seek(tp, again)
        active = self._get_active_partitions()
        placed = {tp for tp in active if self._placed(tp)}
        fetchable = {tp for tp in placed if self._has_room(tp)}
        if not fetchable:
            self._room.clear()
            await self.wait_first(self._room.wait(), timeout=timeout if placed == active else 0.02)
            return {}, fetchable
        # A poll ends early only for data of the partitions asked for: while others wait for room, poll briefly.
        wait = timeout if len(fetchable) == len(active) else min(timeout, 0.02)
        return await self._getmany(active_partitions=fetchable, timeout=wait), fetchable

    def _placed(self, tp: TP) -> bool:
        """Whether what is fetched reaches the agent. Recovery lets the flow run, seeks, and then empties all queues:
        what it threw away would stay un-acked for ever. Its last act is to call the rebalance ended.
        """
        if tp.topic != self.limits.topic:
            return True
        return tp in self.flight.expected and not self.app.rebalancing and not self.in_doubt

    def _has_room(self, tp: TP) -> bool:
        return tp.topic != self.limits.topic or self.flight.has_room(tp)

    async def _singles(self, tp: TP, records: Iterable[ConsumerRecord]) -> AsyncIterator[ConsumerMessage]:
        self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
        for record in records:
            yield self._to_message(tp, record)

    async def _batches(self, tp: TP, records: list[ConsumerRecord]) -> AsyncIterator[BatchMessage]:
        if not self._placed(tp):
            return  # what is fetched before that comes again after it
        records = await self._contiguous(tp, records)
        for message in cut(tp, records, self.limits, self.flight.epoch, self.app.consumer_generation_id):
            self.flight.hand_over(message)
            self.last_progress[tp] = time.monotonic()
            yield message

    async def _contiguous(self, tp: TP, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        """The records that follow what was handed over before; none when a seek back was needed."""
        if not records:
            return records
        expected, found = self.flight.expected[tp], records[0].offset
        match self.flight.follow(tp, found):
            case Follow.NEXT:
                return records
            case Follow.OVERLAP:  # the client began at the start, as there was nothing where it wanted to read on
                await self.doubt(f"{tp.topic}-{tp.partition} is read from {found} on, and {expected} was to follow")
                return []
            case Follow.GAP:
                self.events.gap_healed(tp, expected, found)
                await self.seek(tp, expected)
                return []
            case Follow.MISSING:
                return records if await self._passed_over(tp, expected, found) else []

    async def _passed_over(self, tp: TP, expected: int, found: int) -> bool:
        """Tell what is not there from `expected` to `found`; False when Kafka does not say, and it is read again."""
        try:
            start = (await self._thread.starts([tp]))[tp]
        except (KafkaError, TimeoutError):
            await self.seek(tp, expected)
            return False
        if start > expected:
            self.events.offsets_missing(tp, expected, min(start, found))
        return True  # from the log's start on only markers of transactions take offsets and hold no records

    async def look_again(self, tp: TP) -> None:
        """Read again what comes after the last batch; if that is nothing but markers, they count as done.

        For a partition with all batches acked whose log goes on, by its end offset, and brings no records.
        """
        offset = self._markers.look(tp)
        if offset is not None:
            await self.seek(tp, offset)

    # -- rebalance, seek and stop

    async def perform_seek(self) -> None:
        """Forget everything in flight and go on from the committed offsets.

        Forgetting happens before AND after the seek: recovery lets the flow run meanwhile, and what is handed over
        then comes from the old positions.
        """
        self._forget()
        positions = await self.logs.positions(partial(self._thread.extents, self.limits.topic))
        await self._thread.seek_to(positions)
        self._forget()
        self.in_doubt = False
        for tp, position in positions.items():
            self.flight.place(tp, position)
            self._committed_offset[tp] = position.committed
            self._read_offset[tp] = position.offset or None
            self.last_progress[tp] = time.monotonic()
            if position.reset:
                self.events.position_reset(tp, position)
            if position.reset or position.anew:
                self.flight.done[tp] = position.offset  # committed at once, or each rebalance would tell it again

    async def doubt(self, what: str, *, rejoin: bool = True) -> None:
        """Nothing is read before a rebalance has shown what log there is; `rejoin`: that begins now."""
        if not self.in_doubt:
            self.in_doubt = True
            self.events.log_in_doubt(what)
        if rejoin:
            await self._thread.rejoin()

    def _forget(self) -> None:
        self.flight.begin_anew()
        self._markers.forget()
        self.last_progress.clear()
        self._room.set()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Stop, let running writes end, commit what is done, then forget."""
        await super().on_partitions_revoked(revoked)
        self._forget()
        self.in_doubt = False
        gc.collect()  # aiokafka's readers of what was fetched and not begun hold themselves, and 4 MiB each

    # -- what others may ask

    async def ends(self) -> Mapping[TP, int]:
        """End offsets of our partitions of the topic. Raises KafkaError or TimeoutError within 10 s."""
        tps = [tp for tp in self.assignment() if tp.topic == self.limits.topic]
        found = await self._thread.ends(tps) if tps else {}
        return {TP(tp.topic, tp.partition): end for tp, end in found.items()}

    def current(self, message: BatchMessage) -> bool:
        """Whether the batch is still ours to work on: no seek and no rebalance since it was fetched."""
        return (
            message.epoch == self.flight.epoch
            and self.flow_active
            and message.generation_id == self.app.consumer_generation_id
        )


async def _nothing_to_drain() -> None:
    return None


class BatchTransport(driver.Transport):  # type: ignore[misc]
    """Set it before the first agent: `app.transport = BatchTransport(app, limits, events)`."""

    Consumer = BatchConsumer

    def __init__(
        self,
        app: faust.App,
        limits: BatchLimits,
        events: TransportEvents,
        lease: SessionLease | None = None,
        logs: LogBook | None = None,
    ) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.limits = limits
        self.events = events
        self.lease = lease  # told of our membership in the group
        self.logs = logs or LogBook(limits.topic, events)
        self.drain: Callable[[], Awaitable[None]] = _nothing_to_drain
