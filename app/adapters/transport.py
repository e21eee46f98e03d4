"""The batching Faust transport: in, what aiokafka fetched; out, one event per run of records of a partition.

Stock Faust hands over one record at a time (16k a second) and commits past records it lost at a rebalance. This
transport hands over runs, and commits only a prefix: an offset moves when every batch before it has been acked.
What it leans on in Faust and aiokafka is listed, and checked, in tests/contract/test_faust_internals.py.

Words used here:
    epoch      counts seeks; batches of an older epoch were fetched before one and are stale
    expected   the offset the next batch of a partition must start at (contiguity check)
    out        batches handed over and not yet acked, per partition, in offset order
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import faust
from aiokafka import ConsumerRecord
from aiokafka.consumer.fetcher import FetchResult
from faust.events import Event
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from app.adapters.positions import Position, choose_position
from app.errors import StreamGapError

# What a ConsumerRecord with key, headers and their tuples takes beside its payload (measured with sys.getsizeof).
RECORD_OVERHEAD = 600


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How records of `topic` are cut into batches and how many of them may wait.

    A partition is not fetched while `partition_batches` of its batches, or `buffer_bytes` in all, are un-acked.
    """

    topic: str
    max_rows: int = 5000
    max_bytes: int = 1 << 20
    buffer_bytes: int = 64 << 20
    partition_batches: int = 2


class TransportEvents:
    """What the transport reports; the worker's subclass counts and logs it. Silent by default."""

    def gap_healed(self, tp: TP, expected: int, found: int) -> None:
        """Seeking back to `expected`: records from there to `found` were fetched but not handed over."""

    def offsets_missing(self, tp: TP, expected: int, found: int) -> None:
        """The log holds nothing from `expected` to `found` any more: retention, or transaction markers."""

    def position_reset(self, tp: TP, position: Position) -> None:
        """The committed offset is outside the log: retention, or a topic made anew."""


class BatchMessage(ConsumerMessage):  # type: ignore[misc]
    """One run of records of one partition. `value` is the list of aiokafka ConsumerRecord."""

    first_offset: int
    next_offset: int
    weight: int
    epoch: int
    in_work: bool = False  # taken by the pipeline: holding it (an outage) is not being stuck


class BatchTopic(faust.Topic):  # type: ignore[misc]
    """A topic whose events carry batches: nothing is decoded before the agent sees it."""

    def _compile_decode(self) -> None:
        app = self.app

        async def decode(message: BatchMessage, *, propagate: bool = False) -> Event:
            return Event(app, None, message.value, None, message)

        self.decode = decode


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread that polls Kafka; adds one question to it: where should each partition be read from?"""

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


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Faust's consumer with batches, prefix commits, a contiguity check and bounded buffers for one topic."""

    transport: "BatchTransport"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = self.transport.limits
        self.events = self.transport.events
        self.epoch = 0
        self.last_progress: dict[TP, float] = {}
        self._out: dict[TP, deque[BatchMessage]] = {}
        self._expected: dict[TP, int] = {}
        self._done: dict[TP, int] = {}
        self._start: dict[TP, int] = {}
        self._healing: dict[TP, int] = {}
        self._settling: dict[TP, int] = {}
        self._weight = 0
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
        return tp.topic != self.limits.topic or (tp in self._expected and not self.app.rebalancing)

    def _has_room(self, tp: TP) -> bool:
        if tp.topic != self.limits.topic:
            return True
        waiting = self._out.get(tp)
        if not waiting:
            return True  # one batch per partition always fits, or a large one could wait for ever
        return len(waiting) < self.limits.partition_batches and self._weight < self.limits.buffer_bytes

    async def _singles(self, tp: TP, records: Iterable[ConsumerRecord]) -> AsyncIterator[ConsumerMessage]:
        self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
        for record in records:
            yield self._to_message(tp, record)

    async def _batches(self, tp: TP, records: list[ConsumerRecord]) -> AsyncIterator[BatchMessage]:
        if not self._placed(tp):
            return  # what is fetched before that comes again after it
        records = await self._contiguous(tp, records)
        start = 0
        while start < len(records):
            message, start = self._cut(tp, records, start)
            self._out.setdefault(tp, deque()).append(message)
            self._weight += message.weight
            self._expected[tp] = message.next_offset
            self.last_progress[tp] = time.monotonic()
            yield message

    def _cut(self, tp: TP, records: list[ConsumerRecord], start: int) -> tuple[BatchMessage, int]:
        part = (
            records[start : start + self.limits.max_rows] if start or len(records) > self.limits.max_rows else records
        )
        sizes = [len(record.value or b"") for record in part]
        size = sum(sizes)
        if size > self.limits.max_bytes:
            part, size = _within(part, sizes, self.limits.max_bytes)
        tail = part[-1]
        message = BatchMessage(
            tp.topic, tp.partition, tail.offset, tail.timestamp / 1000.0, tail.timestamp_type, [], b"", part, None,
            tp=tp, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip
        message.first_offset = part[0].offset
        message.next_offset = tail.offset + 1
        message.weight = size + RECORD_OVERHEAD * len(part)
        message.epoch = self.epoch
        return message, start + len(part)

    async def _contiguous(self, tp: TP, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        """The records that follow what was handed over before; none when a seek back was needed."""
        expected = self._expected[tp]
        if not records or records[0].offset == expected:
            self._healing.pop(tp, None)
            return records
        found = records[0].offset
        if found < expected:
            if (self.highwater(tp) or expected) < expected:
                raise StreamGapError(f"{tp} now ends before offset {expected}: the topic was made anew")
            return [record for record in records if record.offset >= expected]
        if self._healing.get(tp) != expected:
            self._healing[tp] = expected
            self.events.gap_healed(tp, expected, found)
            await self.seek(tp, expected)
            return []
        # Read from `expected` again and it still starts later: the log has nothing in between.
        del self._healing[tp]
        self.events.offsets_missing(tp, expected, found)
        return records

    async def look_again(self, tp: TP) -> None:
        """Read again what comes after the last batch; if that is nothing but markers, they count as done.

        For a partition with all batches acked whose log goes on, by its end offset, and brings no records.
        """
        expected = self._expected.get(tp)
        if expected is not None and not self._out.get(tp) and tp not in self._settling:
            self._settling[tp] = expected
            await self.seek(tp, expected)

    async def _settle(self) -> None:
        # Between two polls nothing is under way: a position past `expected` means that there were no records.
        for tp, expected in list(self._settling.items()):
            reached = await self._thread.reached(tp)
            if self._expected.get(tp) != expected or self._out.get(tp):
                self._settling.pop(tp, None)
            elif reached is not None and reached > expected:
                del self._settling[tp]
                self._expected[tp] = self._done[tp] = reached

    # -- ack and commit: a prefix, never past an un-acked batch

    def ack(self, message: ConsumerMessage) -> bool:
        """Mark a message as done. Batches only ever leave `out` from its head (see _new_offset)."""
        if not isinstance(message, BatchMessage):
            return bool(super().ack(message))
        message.acked = True
        self._unacked_messages.discard(message)
        self.last_progress[message.tp] = time.monotonic()
        self._advance(message.tp)
        return True

    def _advance(self, tp: TP) -> None:
        waiting = self._out.get(tp)
        while waiting and waiting[0].acked:
            message = waiting.popleft()
            self._weight -= message.weight
            self._done[tp] = message.next_offset
        self._room.set()

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        yield from super()._filter_tps_with_pending_acks(topics)
        yield from [tp for tp in self._done if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic != self.limits.topic:
            offset: int | None = super()._new_offset(tp)
            return offset
        return self._done.get(tp)

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
            self._expected[tp] = self._start[tp] = position.offset
            self._committed_offset[tp] = position.committed
            self._read_offset[tp] = position.offset or None
            self.last_progress[tp] = time.monotonic()
            if position.reset:
                self.events.position_reset(tp, position)

    def _forget(self) -> None:
        self.epoch += 1
        self._weight = 0
        kept = (self._out, self._expected, self._start, self._done, self._healing, self._settling, self.last_progress)
        for each in kept:
            each.clear()
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
            message.epoch == self.epoch
            and self.flow_active
            and message.generation_id == self.app.consumer_generation_id
        )

    def heads(self) -> Mapping[TP, BatchMessage]:
        """The oldest un-acked batch of each partition that has one."""
        return {tp: waiting[0] for tp, waiting in self._out.items() if waiting}

    def done_offsets(self) -> Mapping[TP, int]:
        """For each partition of the topic: the offset up to which everything is done; at first where reading began."""
        return {**self._start, **self._done}

    @property
    def buffered_bytes(self) -> int:
        """Estimated memory of the batches handed over and not yet acked."""
        return self._weight


def _within(records: list[ConsumerRecord], sizes: list[int], most: int) -> tuple[list[ConsumerRecord], int]:
    """The first records that stay within `most` bytes, at least one, and their size."""
    total, count = sizes[0], 1
    while count < len(sizes) and total + sizes[count] <= most:
        total += sizes[count]
        count += 1
    return records[:count], total


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
