"""Batches that follow one another: in, what polls have found; out, batches for the agent, and what is read again.

What is fetched and not handed over, for whatever reason, is owed: it is sought back to before Kafka is asked again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, MutableMapping
from typing import Any, Protocol

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from faust.types import TP

from app.stream.batches import RECORD_OVERHEAD, BatchLimits, BatchMessage
from app.stream.events import TransportEvents
from app.stream.in_flight import Follow, InFlight
from app.stream.offsets import Offsets
from app.stream.transaction_markers import TransactionMarkers

Epoch = tuple[int, int]  # of the books, and the rebalance they were opened after: no answer of Kafka outlives it


class Flow(Protocol):
    """What Faust's consumer says of itself (app.stream.transport.BatchConsumer)."""

    app: Any
    flow_active: bool

    @property
    def should_stop(self) -> bool: ...


class BatchReader:
    """Hands over the runs of one topic, where each last one ended, as long as there is room for more."""

    def __init__(
        self,
        flow: Flow,
        limits: BatchLimits,
        flight: InFlight,
        offsets: Offsets,
        events: TransportEvents,
        read_offsets: MutableMapping[TP, int | None],
    ) -> None:
        """`read_offsets` are Faust's: what comes before them is dropped; a seek moves them."""
        self._flow, self._app, self._limits, self._flight = flow, flow.app, limits, flight
        self._offsets, self._events, self._read_offsets = offsets, events, read_offsets
        self.markers = TransactionMarkers(flight)
        self.room = asyncio.Event()  # set when there may be some again
        self.last_progress: dict[TP, float] = {}  # when it was placed, or a batch handed over or acked, last
        self.in_doubt = False  # whether the log is the one that `flight` is about
        self.asked: Epoch = (0, 0)  # when Kafka was asked last
        self._owed: set[TP] = set()  # fetched, or asked for, and not handed over to the end

    # -- what to ask Kafka for

    def placed(self, tp: TP) -> bool:
        """Whether what is fetched reaches the agent. Recovery lets the flow run, seeks, and then empties all queues:
        what it threw away would stay un-acked for ever. Its last act is to call the rebalance ended.
        """
        if tp.topic != self._limits.topic:
            return True
        return tp in self._flight.expected and not self._app.rebalancing and not self.in_doubt

    def has_room(self, tp: TP) -> bool:
        """Whether more of the partition may be fetched."""
        return tp.topic != self._limits.topic or self._flight.has_room(tp)

    def now(self) -> Epoch:
        """What an answer of Kafka must not outlive."""
        return self._flight.epoch, self._app.rebalancing_count

    def still(self, asked: Epoch) -> bool:
        """Whether what was fetched at the time of `asked` may be handed over."""
        flow = self._flow
        return flow.flow_active and not flow.should_stop and not self.in_doubt and asked == self.now()

    def asks(self, tps: Collection[TP]) -> None:
        """Kafka is asked for these: they are owed, whatever becomes of the answer."""
        self.asked = self.now()
        self._owed.update(tps)

    def answered(self, tps: Collection[TP], records: Mapping[Any, Any]) -> None:
        """Kafka has answered: nothing is owed of those that it sent nothing of."""
        self._owed.difference_update([tp for tp in tps if tp not in records])

    # -- hand over

    async def batches(
        self, tp: TP, records: list[ConsumerRecord], asked: Epoch | None = None
    ) -> AsyncIterator[BatchMessage]:
        """Hand over a run. Only its end says that nothing of it is owed: whatever ends it sooner, it is read again."""
        asked = asked or self.now()
        self._owed.add(tp)
        if not self.still(asked) or not self.placed(tp):
            return
        found = await self._contiguous(tp, records)
        if found is None:
            return
        for message in cut(tp, found, self._limits, self._flight.epoch, self._app.consumer_generation_id):
            if not self.still(asked):  # a rebalance, while the one before was handed over
                return
            self._flight.hand_over(message)
            self.last_progress[tp] = time.monotonic()
            yield message
        if self.still(asked):
            self._owed.discard(tp)

    async def _contiguous(self, tp: TP, records: list[ConsumerRecord]) -> list[ConsumerRecord] | None:
        """The records that follow what was handed over before; None when it must be read again from there."""
        if not records:
            return records
        expected, found = self._flight.expected[tp], records[0].offset
        match self._flight.follow(tp, found):
            case Follow.NEXT:
                return records
            case Follow.OVERLAP:  # the client began at the start, as there was nothing where it wanted to read on
                await self.doubt(f"{tp.topic}-{tp.partition} is read from {found} on, and {expected} was to follow")
                return None
            case Follow.GAP:
                self._events.gap_healed(tp, expected, found)
                return None
            case Follow.MISSING:
                return records if await self._passed_over(tp, expected, found) else None

    async def _passed_over(self, tp: TP, expected: int, found: int) -> bool:
        """Report what is not there from `expected` to `found`; False when Kafka does not say, and it is read again."""
        try:
            start = (await self._offsets.starts([tp]))[tp]
        except (KafkaError, TimeoutError):
            return False
        if start > expected:
            self._events.offsets_missing(tp, expected, min(start, found))
        return True  # from the log's start on only transactions, their markers or aborted ones, take such offsets

    def moves(self, tp: TP) -> None:
        """The partition makes progress at this moment."""
        self.last_progress[tp] = time.monotonic()

    def taken_up(self, message: BatchMessage) -> None:
        """The pipeline has it: whatever holds it from here on, it is no longer to be waited for."""
        message.in_work = True
        self.room.set()

    def acked(self, message: BatchMessage) -> None:
        """A batch is done. Batches leave the flight from its head alone."""
        self.last_progress[message.tp] = time.monotonic()
        self._flight.acked(message.tp)
        self.room.set()

    # -- read again

    async def put_back(self) -> None:
        """Between two polls, when nothing is under way: read again what nobody was given, of each placed partition."""
        expected = self._flight.expected
        await self._seek_to({tp: expected[tp] for tp in self._owed & expected.keys() if self.placed(tp)})
        for tp in self.markers.looking:
            position = await self._offsets.reached(tp)
            again = None if tp in self._owed else self.markers.reached(tp, position)
            if again is not None:
                await self._seek_to({tp: again})

    async def _seek_to(self, offsets: Mapping[TP, int]) -> None:
        """Read from there on. What a rebalance takes away meanwhile stays owed, to whoever has it then."""
        if not offsets:
            return
        for tp in await self._offsets.seek_to(offsets, self._app.rebalancing_count):
            self._read_offsets[tp] = offsets[tp] or None
            self._owed.discard(tp)

    async def look_again(self, tp: TP) -> None:
        """Read again what comes after the last batch; if that is nothing but markers, they count as done.

        For a partition with all batches acked whose log goes on, by its end offset, and brings no records.
        """
        self.markers.look(tp)  # it begins when no poll is under way, which would move the client on behind it

    async def doubt(self, what: str, *, rejoin: bool = True) -> None:
        """Nothing is read before a rebalance has shown what log there is; `rejoin`: that begins now."""
        if not self.in_doubt:
            self.in_doubt = True
            self._events.log_in_doubt(what)
        if rejoin:
            await self._offsets.rejoin()

    def forget(self) -> None:
        """A seek or a rebalance: all that was in flight is stale, and what is owed stays owed."""
        self._flight.begin_anew()
        self.markers.forget()
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
