"""The batching Faust transport: in, what aiokafka fetched; out, one event per run of records of a partition.

Stock Faust hands over one record at a time (16k a second) and commits past records it lost at a rebalance. This
transport hands over runs, and commits only a prefix: an offset moves when every batch before it has been acked.
What it leans on in Faust and aiokafka is listed, and checked, in tests/contract/test_faust_internals.py.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

import faust
from aiokafka import ConsumerRecord
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from app.adapters.batches import BatchLimits, BatchMessage, cut
from app.adapters.consumer_thread import ConsumerThread
from app.adapters.flight import Flight, Follow
from app.adapters.positions import Position


class TransportEvents:
    """What the transport reports; the worker's subclass counts and logs it. Silent by default."""

    def gap_healed(self, tp: TP, expected: int, found: int) -> None:
        """Seeking back to `expected`: records from there to `found` were fetched but not handed over."""

    def offsets_missing(self, tp: TP, expected: int, found: int) -> None:
        """The log holds nothing from `expected` to `found` any more: retention, or transaction markers."""

    def position_reset(self, tp: TP, position: Position) -> None:
        """The committed offset is outside the log: retention, or a topic made anew."""


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Faust's consumer with batches, prefix commits, a contiguity check and bounded buffers for one topic."""

    transport: "BatchTransport"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = self.transport.limits
        self.events = self.transport.events
        self.flight = Flight(self.limits)
        self.last_progress: dict[TP, float] = {}
        self._settling: dict[TP, int] = {}
        self._room = asyncio.Event()

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
        await self._settle()
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
        return tp.topic != self.limits.topic or (tp in self.flight.expected and not self.app.rebalancing)

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
        match self.flight.follow(tp, found, self.highwater(tp)):
            case Follow.NEXT:
                return records
            case Follow.OVERLAP:
                return [record for record in records if record.offset >= expected]
            case Follow.GAP:
                self.events.gap_healed(tp, expected, found)
                await self.seek(tp, expected)
                return []
            case Follow.MISSING:
                self.events.offsets_missing(tp, expected, found)
                return records

    async def look_again(self, tp: TP) -> None:
        """Read again what comes after the last batch; if that is nothing but markers, they count as done.

        For a partition with all batches acked whose log goes on, by its end offset, and brings no records.
        """
        expected = self.flight.expected.get(tp)
        if expected is not None and self.flight.idle(tp) and tp not in self._settling:
            self._settling[tp] = expected
            await self.seek(tp, expected)

    async def _settle(self) -> None:
        # Between two polls nothing is under way: a position past `expected` means that there were no records.
        for tp, expected in list(self._settling.items()):
            reached = await self._thread.reached(tp)
            if self.flight.expected.get(tp) != expected or not self.flight.idle(tp):
                self._settling.pop(tp, None)
            elif reached is not None and reached > expected:
                del self._settling[tp]
                self.flight.expected[tp] = self.flight.done[tp] = reached

    # -- ack and commit: a prefix, never past an un-acked batch

    def ack(self, message: ConsumerMessage) -> bool:
        """Mark a message as done. Batches leave the flight from its head alone."""
        if not isinstance(message, BatchMessage):
            return bool(super().ack(message))
        message.acked = True
        self._unacked_messages.discard(message)
        self.last_progress[message.tp] = time.monotonic()
        self.flight.acked(message.tp)
        self._room.set()
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        yield from super()._filter_tps_with_pending_acks(topics)
        yield from [tp for tp in self.flight.done if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic != self.limits.topic:
            offset: int | None = super()._new_offset(tp)
            return offset
        return self.flight.done.get(tp)

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """Commit; on refusal nothing is remembered as committed, and the next round tries again."""
        assigned = self.assignment()
        ours = {tp: offset for tp, offset in offsets.items() if tp in assigned}
        if not ours or not await self._commit(ours):
            return False
        self.app.tables.on_commit(ours)
        self._committed_offset.update(ours)
        self.app.monitor.on_tp_commit(ours)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if tp.topic != self.limits.topic:
            await super()._add_gap(tp, offset_from, offset_to)

    # -- rebalance, seek and stop

    async def perform_seek(self) -> None:
        """Forget everything in flight and go on from the committed offsets.

        Forgetting happens before AND after the seek: recovery lets the flow run meanwhile, and what is handed over
        then comes from the old positions.
        """
        self._forget()
        positions = await self._thread.positions(self.limits.topic)
        self._forget()
        for tp, position in positions.items():
            self.flight.place(tp, position)
            self._committed_offset[tp] = position.committed
            self._read_offset[tp] = position.offset or None
            self.last_progress[tp] = time.monotonic()
            if position.reset:
                self.events.position_reset(tp, position)

    def _forget(self) -> None:
        self.flight.begin_anew()
        self._settling.clear()
        self.last_progress.clear()
        self._room.set()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Stop, let running writes end, commit what is done, then forget."""
        await super().on_partitions_revoked(revoked)
        self._forget()

    async def wait_empty(self) -> None:
        """Let the pipeline finish or give up (bounded by its own time limit), then commit the done prefix."""
        await self.transport.drain()
        self._unacked_messages.clear()
        await self.commit_and_end_transactions()

    # -- what others may ask

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

    def __init__(self, app: faust.App, limits: BatchLimits, events: TransportEvents) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.limits = limits
        self.events = events
        self.drain: Callable[[], Awaitable[None]] = _nothing_to_drain
