"""The batching Faust transport: in, what aiokafka fetched; out, one event per run of records of a partition.

Stock Faust hands over one record at a time (16k a second) and commits past records it lost at a rebalance. This
transport hands over runs, and commits only a prefix: an offset moves when every batch before it has been acked. What is
fetched and not handed over, for whatever reason, is owed: it is sought back to before Kafka is asked again.
What it leans on in Faust and aiokafka is listed, and checked, in tests/contract/stream/test_faust_internals.py.
"""

import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import faust
from aiokafka import ConsumerRecord
from aiokafka.errors import IllegalStateError, KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from app.kafka.session_lease import SessionLease
from app.stream.batches import BatchLimits, BatchMessage, cut
from app.stream.consumer_thread import ConsumerThread
from app.stream.events import TransportEvents
from app.stream.in_flight import Follow
from app.stream.log_book import LogBook
from app.stream.prefix_commit import PrefixConsumer
from app.stream.transaction_markers import TransactionMarkers


class BatchConsumer(PrefixConsumer):
    """A consumer with batches, a contiguity check and bounded buffers for one topic."""

    transport: "BatchTransport"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.events = self.transport.events
        self._markers = TransactionMarkers(self.flight)
        self.in_doubt = False  # whether the log is the one that `flight` is about
        self._owed: set[TP] = set()  # fetched, or asked for, and not handed over to the end
        self._asked = (0, 0)  # when Kafka was asked last, as _now() has it

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- fetch: only partitions with room, cut into batches, each where the last one ended

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield (partition, message): batches for our topic, single records for all others (changelogs)."""
        records, _ = await self._wait_next_records(timeout)
        asked = self._asked
        for raw_tp, run in records.items():
            tp = TP(raw_tp.topic, raw_tp.partition)
            messages = self._batches(tp, run, asked) if tp.topic == self.limits.topic else self._singles(tp, run, asked)
            async for message in messages:
                yield tp, message

    async def _wait_next_records(self, timeout: float) -> tuple[Any, set[TP] | None]:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        await self._put_back()
        active = self._get_active_partitions()
        placed = {tp for tp in active if self._placed(tp)}
        fetchable = {tp for tp in placed if self._has_room(tp)}
        if not fetchable:
            self._room.clear()
            await self.wait_first(self._room.wait(), timeout=timeout if placed == active else 0.02)
            return {}, fetchable
        self._asked = self._now()
        self._owed |= fetchable  # whatever becomes of the answer
        # A poll ends early only for data of the partitions asked for: while others wait for room, poll briefly.
        wait = timeout if len(fetchable) == len(active) else min(timeout, 0.02)
        records = await self._getmany(active_partitions=fetchable, timeout=wait)
        self._owed.difference_update([tp for tp in fetchable if tp not in records])
        return records, fetchable

    def _placed(self, tp: TP) -> bool:
        """Whether what is fetched reaches the agent. Recovery lets the flow run, seeks, and then empties all queues:
        what it threw away would stay un-acked for ever. Its last act is to call the rebalance ended.
        """
        if tp.topic != self.limits.topic:
            return True
        return tp in self.flight.expected and not self.app.rebalancing and not self.in_doubt

    def _now(self) -> tuple[int, int]:
        """What an answer of Kafka must not outlive: the books, and the rebalance they were opened after."""
        return self.flight.epoch, self.app.rebalancing_count

    def _still(self, asked: tuple[int, int]) -> bool:
        """Whether what was fetched at the time of `asked` may be handed over."""
        return self.flow_active and not self.should_stop and not self.in_doubt and asked == self._now()

    async def _put_back(self) -> None:
        """Between two polls, when nothing is under way: read again what nobody was given, of each placed partition."""
        await self._seek_to(
            {tp: self.flight.expected[tp] for tp in self._owed & self.flight.expected.keys() if self._placed(tp)}
        )
        for tp in self._markers.looking:
            position = await self._thread.reached(tp)
            again = None if tp in self._owed else self._markers.reached(tp, position)
            if again is not None:
                await self._seek_to({tp: again})

    async def _seek_to(self, offsets: Mapping[TP, int]) -> None:
        """Read from there on. What a rebalance takes away meanwhile stays owed, to whoever has it then."""
        if not offsets:
            return
        for tp in await self._thread.seek_to(offsets, self.app.rebalancing_count):
            self._read_offset[tp] = offsets[tp] or None
            self._owed.discard(tp)

    def _has_room(self, tp: TP) -> bool:
        return tp.topic != self.limits.topic or self.flight.has_room(tp)

    async def _singles(
        self, tp: TP, records: Iterable[ConsumerRecord], asked: tuple[int, int]
    ) -> AsyncIterator[ConsumerMessage]:
        self.app.monitor.track_tp_end_offset(tp, self.highwater(tp) or 0)
        for record in records:
            if not self._still(asked):
                return
            yield self._to_message(tp, record)

    async def _batches(
        self, tp: TP, records: list[ConsumerRecord], asked: tuple[int, int] | None = None
    ) -> AsyncIterator[BatchMessage]:
        """Hand over a run. Only its end says that nothing of it is owed: whatever ends it sooner, it is read again."""
        asked = asked or self._now()
        self._owed.add(tp)
        if not self._still(asked) or not self._placed(tp):
            return
        found = await self._contiguous(tp, records)
        if found is None:
            return
        for message in cut(tp, found, self.limits, self.flight.epoch, self.app.consumer_generation_id):
            if not self._still(asked):  # a rebalance, while the one before was handed over
                return
            self.flight.hand_over(message)
            self.last_progress[tp] = time.monotonic()
            yield message
        if self._still(asked):
            self._owed.discard(tp)

    async def _contiguous(self, tp: TP, records: list[ConsumerRecord]) -> list[ConsumerRecord] | None:
        """The records that follow what was handed over before; None when it must be read again from there."""
        if not records:
            return records
        expected, found = self.flight.expected[tp], records[0].offset
        match self.flight.follow(tp, found):
            case Follow.NEXT:
                return records
            case Follow.OVERLAP:  # the client began at the start, as there was nothing where it wanted to read on
                await self.doubt(f"{tp.topic}-{tp.partition} is read from {found} on, and {expected} was to follow")
                return None
            case Follow.GAP:
                self.events.gap_healed(tp, expected, found)
                return None
            case Follow.MISSING:
                return records if await self._passed_over(tp, expected, found) else None

    async def _passed_over(self, tp: TP, expected: int, found: int) -> bool:
        """Tell what is not there from `expected` to `found`; False when Kafka does not say, and it is read again."""
        try:
            start = (await self._thread.starts([tp]))[tp]
        except (KafkaError, TimeoutError):
            return False
        if start > expected:
            self.events.offsets_missing(tp, expected, min(start, found))
        return True  # from the log's start on only transactions, their markers or aborted ones, take such offsets

    async def look_again(self, tp: TP) -> None:
        """Read again what comes after the last batch; if that is nothing but markers, they count as done.

        For a partition with all batches acked whose log goes on, by its end offset, and brings no records.
        """
        self._markers.look(tp)  # it begins when no poll is under way, which would move the client on behind it

    def taken_up(self, message: BatchMessage) -> None:
        """The pipeline has it: whatever holds it from here on, it is no longer to be waited for."""
        message.in_work = True
        self._room.set()

    # -- rebalance, seek and stop

    async def perform_seek(self) -> None:
        """Forget everything in flight and go on from the committed offsets.

        Forgetting happens before AND after the seek: recovery lets the flow run meanwhile, and what is handed over
        then comes from the old positions. What is owed is not forgotten: a poll that is under way may yet move the
        client on from the positions found here. Raises IllegalStateError when the group rebalances meanwhile.
        """
        self._forget()
        asked = self._now()
        positions = await self.logs.positions(partial(self._thread.extents, self.limits.topic))
        offsets = {tp: position.offset for tp, position in positions.items()}
        sought = await self._thread.seek_to(offsets, self.app.rebalancing_count)
        if asked != self._now() or len(sought) < len(offsets):
            raise IllegalStateError("the group rebalances again")  # whoever recovers next asks again
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
        self.stop_flow()  # Faust does so only when there is an assignment
        await super().on_partitions_revoked(revoked)
        self._forget()
        self.in_doubt = False
        gc.collect()  # aiokafka's readers of what was fetched and not begun hold themselves, and 4 MiB each

    # -- what others may ask

    async def ends(self) -> Mapping[TP, int]:
        """End offsets of what may be read of our partitions of the topic; not before what is done, unless the log does.

        Raises KafkaError or TimeoutError within 10 s.
        """
        tps = [tp for tp in self.assignment() if tp.topic == self.limits.topic]
        found = await self._thread.ends(tps) if tps else {}
        done = self.flight.done_offsets()
        if held := [tp for tp, end in found.items() if end < done.get(TP(*tp), 0)]:
            logs = await self._thread.log_ends(held)  # an open transaction lies before what was done, or the log is cut
            found = {tp: min(logs[tp], done[TP(*tp)]) if tp in logs else end for tp, end in found.items()}
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
