"""The batching Faust transport: in, what aiokafka fetched; out, one event per run of records of a partition.

Stock Faust hands over one record at a time (16k a second) and commits past records it lost at a rebalance. This
transport hands over runs, and commits only a prefix: an offset moves when every batch before it has been acked.
The classes here are Faust's with our parts in them: a hook hands on to the part that knows (BatchReader, SeekBack,
PrefixCommit, Rebalance, Placement, Offsets), which knows nothing of Faust. The internals of Faust and aiokafka that
these classes lean on are listed, and checked, in tests/contract/stream/test_*_internals.py.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

import faust
from aiokafka import ConsumerRecord
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode.services import WaitResults

from app.kafka.session_lease import SessionLease
from app.stream.batch_reader import BatchReader
from app.stream.batches import BatchLimits, BatchMessage, Epoch
from app.stream.consumer_thread import ConsumerThread
from app.stream.delivery import run_eagerly
from app.stream.events import TransportEvents
from app.stream.in_flight import InFlight
from app.stream.log_book import LogBook
from app.stream.prefix_commit import PrefixCommit
from app.stream.rebalance.order import Rebalance
from app.stream.rebalance.placement import Placement
from app.stream.seek_back import SeekBack


class BatchConsumer(driver.Consumer):
    """Faust's consumer, with batches of one topic."""

    transport: "BatchTransport"
    Reader, Seeks = BatchReader, SeekBack

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offsets = self._thread.offsets
        self._assemble()

    def _assemble(self) -> None:
        limits, events = self.transport.limits, self.transport.events
        self.limits, self.events, self.logs = limits, events, self.transport.logs
        self.flight = InFlight(limits)
        self.seek_back = self.Seeks(self.app, limits.topic, self.flight, self.offsets, events, self._read_offset)
        self.reader = self.Reader(self, limits, self.flight, self.seek_back)
        self.commits = PrefixCommit(limits.topic, self.flight)
        self.placement = Placement(
            limits.topic, self.app, self.reader, self.flight, self.offsets, events,
            committed=self._committed_offset, read=self._read_offset,
        )  # fmt: skip
        self.rebalance = Rebalance(self, self.reader)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- fetch: what the reader asks for

    def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """(partition, message) of one poll: batches of our topic, single records of all others (changelogs)."""
        return self.reader.poll(timeout)

    def active(self) -> set[TP]:
        """The partitions that are not paused."""
        active: set[TP] = self._get_active_partitions()
        return active

    def fetch(self, tps: set[TP], seconds: float) -> Awaitable[Mapping[Any, list[ConsumerRecord]]]:
        """The records of one poll of these partitions, by partition; the poll waits `seconds` for the first record."""
        fetch: Awaitable[Mapping[Any, list[ConsumerRecord]]] = self._getmany(active_partitions=tps, timeout=seconds)
        return fetch

    async def singles(self, tp: TP, run: Iterable[ConsumerRecord], asked: Epoch) -> AsyncIterator[ConsumerMessage]:
        """Records of another topic than ours, each as Faust's own message."""
        self.app.monitor.track_tp_end_offset(tp, self.highwater(tp) or 0)
        for record in run:
            if not self.reader.still(asked):
                return
            yield self._to_message(tp, record)

    async def wait_first(self, *coros: Any, timeout: float | None = None) -> Any:
        """Wait as Faust does. Faust waits here with each message, and makes four tasks; a message that nothing holds up
        needs none.
        """
        if timeout is None and len(coros) == 2 and all(map(asyncio.iscoroutine, coros)):
            left = run_eagerly(*coros)
            if left is None:
                return WaitResults([], [], self.should_stop)
            coros = left
        return await super().wait_first(*coros, timeout=timeout)

    # -- ack and commit: a prefix

    def ack(self, message: ConsumerMessage) -> bool:
        """Mark a message as done."""
        if not isinstance(message, BatchMessage):
            return bool(super().ack(message))
        message.acked = True
        self._unacked_messages.discard(message)
        self.reader.acked(message)
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        yield from super()._filter_tps_with_pending_acks(topics)
        yield from self.commits.pending(topics)

    def _new_offset(self, tp: TP) -> int | None:
        offset: int | None = self.commits.offset(tp) if self.commits.covers(tp) else super()._new_offset(tp)
        return offset

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if not self.commits.covers(tp):
            await super()._add_gap(tp, offset_from, offset_to)

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """Commit; on refusal nothing is remembered as committed, and the next round tries again."""
        signed = self.commits.signed(offsets, self.assignment(), self.logs.signature)
        if not signed or not await self._commit(signed):
            return False
        done = {tp: offsets[tp] for tp in signed}
        self.app.tables.on_commit(done)
        self._committed_offset.update(done)
        self.app.monitor.on_tp_commit(done)
        return True

    async def commit_now(self) -> None:
        """Commit all that is done at this moment."""
        if self._commit_fut is not None:  # a commit under way knows nothing of the last acks
            await asyncio.wait({self._commit_fut})
        await self.commit_and_end_transactions()

    # -- rebalance, seek and stop: app.stream.rebalance.order

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Stop the flow, let running writes end, commit what is done, then forget the rest."""
        await self.rebalance.give_up(super().on_partitions_revoked(revoked))

    async def drain(self) -> None:
        """Let the pipeline finish or be interrupted."""
        await self.transport.drain()

    async def wait_empty(self) -> None:
        """Let the pipeline finish or be interrupted, then commit the done prefix."""
        await self.rebalance.drain_and_commit()

    async def perform_seek(self) -> None:
        """Forget everything in flight and go on from the committed offsets. Raises IllegalStateError (Placement)."""
        await self.placement.place(self.logs)

    # -- what the other parts of the worker ask

    @property
    def client(self) -> Any:
        """aiokafka's consumer, which works in its own thread; None before the consumer has started."""
        return self._thread.client

    async def ends(self) -> Mapping[TP, int]:
        """End offsets, as far as may be read, of our partitions of the topic; no end lies before what is done, unless
        the log ends there.

        Raises KafkaError or TimeoutError within 10 s.
        """
        tps = [tp for tp in self.assignment() if tp.topic == self.limits.topic]
        found = await self.offsets.ends(tps) if tps else {}
        done = self.flight.done_offsets()
        if held := [tp for tp, end in found.items() if end < done.get(TP(*tp), 0)]:
            logs = await self.offsets.log_ends(held)  # an open transaction lies before what was done, or the log is cut
            found = {tp: min(logs[tp], done[TP(*tp)]) if tp in logs else end for tp, end in found.items()}
        return {TP(tp.topic, tp.partition): end for tp, end in found.items()}


async def _nothing_to_drain() -> None:
    return None


class BatchTransport(driver.Transport):
    """Set this transport before the first agent: `app.transport = BatchTransport(app, limits, events)`."""

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
        self.lease = lease  # hears of our membership in the group
        self.logs = logs or LogBook(limits.topic, events)
        self.drain: Callable[[], Awaitable[None]] = _nothing_to_drain
