"""Batches that follow one another: in, polls of Kafka; out, batches for the agent, and the pipeline's source of them.

A partition of which records are fetched and not handed over, for whatever reason, is owed: the reader seeks back there
(seek_back.py) before Kafka is asked again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import faust
from aiokafka import ConsumerRecord
from faust.events import Event
from faust.types import TP, ConsumerMessage

from app.core.model.records import Record
from app.stream.batches import RECORD_OVERHEAD, BatchLimits, BatchMessage, Epoch, Flow
from app.stream.in_flight import Follow, InFlight
from app.stream.seek_back import SeekBack

SHORT_POLL_SECONDS = 0.02  # while some partitions wait for room, or to be placed


class BatchReader:
    """Hands over the runs of one topic, each from where the run before ended, as long as there is room for more."""

    def __init__(self, flow: Flow, limits: BatchLimits, flight: InFlight, seek_back: SeekBack) -> None:
        self._flow, self._app, self._limits, self._flight = flow, flow.app, limits, flight
        self.seek_back = seek_back
        self.room = asyncio.Event()  # set when a partition may have room again
        self.last_progress: dict[TP, float] = {}  # when a partition was placed, or a batch handed over or acked, last

    # -- what to ask Kafka for

    async def poll(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Ask Kafka once, for at most `timeout` seconds, and hand over the answer as (partition, message): batches of
        our topic, single records of all others (changelogs).
        """
        fetchable, seconds = await self._fetchable(timeout)
        if not fetchable:
            return
        asked, owed = self.now(), self.seek_back.owed
        owed.update(fetchable)  # whatever becomes of the answer
        found = await self._flow.fetch(fetchable, seconds)
        owed.difference_update([tp for tp in fetchable if tp not in found])
        for raw_tp, run in found.items():
            tp = TP(raw_tp.topic, raw_tp.partition)
            ours = tp.topic == self._limits.topic
            messages = self.batches(tp, run, asked) if ours else self._flow.singles(tp, run, asked)
            async for message in messages:
                yield tp, message

    async def _fetchable(self, timeout: float) -> tuple[set[TP], float]:
        """The partitions to ask for, none after a wait for room, and the seconds to wait for their records."""
        flow = self._flow
        if not flow.flow_active:
            await flow.wait(flow.can_resume_flow)
        await self.seek_back.put_back()
        active = flow.active()
        placed = {tp for tp in active if self.seek_back.placed(tp)}
        fetchable = {tp for tp in placed if self.has_room(tp)}
        if not fetchable:
            self.room.clear()
            await flow.wait_first(self.room.wait(), timeout=timeout if placed == active else SHORT_POLL_SECONDS)
        # A poll ends early only for data of the partitions asked for: while others wait for room, poll briefly.
        return fetchable, timeout if len(fetchable) == len(active) else min(timeout, SHORT_POLL_SECONDS)

    def has_room(self, tp: TP) -> bool:
        """Whether more of the partition may be fetched."""
        return tp.topic != self._limits.topic or self._flight.has_room(tp)

    def now(self) -> Epoch:
        """The present epoch, which no answer of Kafka may outlive."""
        return self._flight.epoch, self._app.rebalancing_count

    def still(self, asked: Epoch) -> bool:
        """Whether records that Kafka was asked for in the epoch `asked` may be handed over."""
        flow = self._flow
        return flow.flow_active and not flow.should_stop and not self.seek_back.in_doubt and asked == self.now()

    # -- hand over

    async def batches(
        self, tp: TP, records: list[ConsumerRecord], asked: Epoch | None = None
    ) -> AsyncIterator[BatchMessage]:
        """Hand over a run. Only at its end is the partition no longer owed: a run that ends sooner is read again."""
        asked = asked or self.now()
        self.seek_back.owed.add(tp)
        if not self.still(asked) or not self.seek_back.placed(tp):
            return
        found = await self._contiguous(tp, records)
        if found is None:
            return
        for message in cut(tp, found, self._limits, self._flight.epoch, self._app.consumer_generation_id):
            if not self.still(asked):  # a rebalance came while the batch before was handed over
                return
            self._flight.hand_over(message)
            self.last_progress[tp] = time.monotonic()
            yield message
        if self.still(asked):
            self.seek_back.owed.discard(tp)

    async def _contiguous(self, tp: TP, records: list[ConsumerRecord]) -> list[ConsumerRecord] | None:
        """The records, when they follow the batch handed over before; None when they must be read again from there."""
        if not records:
            return records
        expected, found = self._flight.expected[tp], records[0].offset
        follow = self._flight.follow(tp, found)
        follows = follow is Follow.NEXT or await self.seek_back.may_skip(tp, follow, expected, found)
        return records if follows else None

    # -- what becomes of a batch

    def current(self, message: BatchMessage) -> bool:
        """Whether the batch is still ours to work on: no seek and no rebalance since it was fetched."""
        return (
            message.epoch == self._flight.epoch
            and self._flow.flow_active
            and message.generation_id == self._app.consumer_generation_id
        )

    def moves(self, tp: TP) -> None:
        """The partition makes progress at this moment."""
        self.last_progress[tp] = time.monotonic()

    def taken_up(self, message: BatchMessage) -> None:
        """The pipeline has taken the batch: whatever holds the batch from here on, nobody waits for this any more."""
        message.in_work = True
        self.room.set()

    def acked(self, message: BatchMessage) -> None:
        """A batch is done. Batches leave InFlight only from the head of their partition."""
        self.last_progress[message.tp] = time.monotonic()
        self._flight.acked(message.tp)
        self.room.set()

    def forget(self) -> None:
        """A seek or a rebalance has made all that was in flight stale."""
        self._flight.begin_anew()
        self.seek_back.forget()
        self.last_progress.clear()
        self.room.set()


def cut(
    tp: TP, records: list[ConsumerRecord], limits: BatchLimits, epoch: int, generation: int
) -> Iterator[BatchMessage]:
    """Cut a run into batches of at most `max_rows` records and `max_bytes` of payload; a larger record goes alone."""
    start = 0
    while start < len(records):
        part = records[start : start + limits.max_rows] if start or len(records) > limits.max_rows else records
        sizes = [len(record.value or b"") for record in part]
        size = sum(sizes)
        if size > limits.max_bytes:
            part, size = _within(part, sizes, limits.max_bytes)
        start += len(part)
        yield _message(tp, part, size, epoch, generation)


def _message(tp: TP, records: list[ConsumerRecord], size: int, epoch: int, generation: int) -> BatchMessage:
    tail = records[-1]
    message = BatchMessage(
        tp.topic, tp.partition, tail.offset, tail.timestamp / 1000.0, tail.timestamp_type, [], b"", records, None,
        tp=tp, generation_id=generation,
    )  # fmt: skip
    message.first_offset = records[0].offset
    message.next_offset = tail.offset + 1
    message.weight = size + RECORD_OVERHEAD * len(records)
    message.epoch = epoch
    return message


def _within(records: list[ConsumerRecord], sizes: list[int], most: int) -> tuple[list[ConsumerRecord], int]:
    """The first records that stay within `most` bytes, at least one, and their size."""
    total, count = sizes[0], 1
    while count < len(sizes) and total + sizes[count] <= most:
        total += sizes[count]
        count += 1
    return records[:count], total


# -- the agent's stream


class BatchTopic(faust.Topic):
    """A topic whose events carry batches: nothing is decoded before the agent sees it."""

    def _compile_decode(self) -> None:
        app = self.app

        async def decode(message: BatchMessage, *, propagate: bool = False) -> Event:
            return Event(app, None, message.value, None, message)

        self.decode = decode


class FaustBatch:
    """One batch of records of a partition (app.core.batch.batch.Batch)."""

    def __init__(self, stream: Any, event: Any, reader: BatchReader) -> None:
        message: BatchMessage = event.message
        reader.taken_up(message)
        self._stream, self._event, self._reader = stream, event, reader
        self.topic: str = message.topic
        self.partition: int = message.partition
        self.first_offset, self.next_offset = message.first_offset, message.next_offset
        self.epoch = message.epoch
        self.records: Sequence[Record] = message.value

    def current(self) -> bool:
        """False once a seek or rebalance has made this batch someone else's; it must then be dropped un-acked."""
        return self._reader.current(self._event.message)

    async def ack(self) -> None:
        """Let the offset be committed with the next commit."""
        await self._stream.ack(self._event)


class FaustSource:
    """Batches of the agent's stream, un-acked (`stream.noack()`); stale batches are left out."""

    def __init__(self, stream: Any, reader: BatchReader) -> None:
        self._stream, self._reader = stream.noack(), reader

    async def batches(self) -> AsyncIterator[FaustBatch]:
        """Yield batches as they come; those of one partition in offset order, without a gap."""
        async for event in self._stream.events():
            batch = FaustBatch(self._stream, event, self._reader)
            if batch.current():
                yield batch
