"""Items of one kind -> batches within the limits, and the outcome of each item of a batch."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, cast

from app.client.pace import Pace
from app.errors import WireError
from app.protobuf.events_pb2 import Event, EventBatch
from app.protobuf.metrics_pb2 import BatchAck, Metric, MetricBatch

Item: TypeAlias = Event | Metric

LATER = "rate_limited"  # a gateway's reason for a good item that it will take later
ITEM_OVERHEAD = 8  # bytes of an item in its batch, beside its own


class RefusedItem(NamedTuple):
    """An item that no gateway will ever take unchanged."""

    # Among all items of one push or one stream.
    index: int  # type: ignore[assignment]  # a tuple has a method `index`, which is not called
    reason: str  # of the closed set in docs/protocols.md
    error: str  # for a person
    item: Item


class Acked(NamedTuple):
    """The outcome of items that were sent one after another: items that are not refused are in Kafka."""

    first: int  # index of the first of them among all items sent
    accepted: int
    refused: Sequence[RefusedItem]
    items: Sequence[Item]  # all of them, as they were sent: with a time


def joined(answers: Sequence[Acked]) -> Acked:
    """The outcome of one push, from the answers to its batches in their order."""
    return Acked(
        0,
        sum(one.accepted for one in answers),
        [item for one in answers for item in one.refused],
        [item for one in answers for item in one.items],
    )


class SentBatch:
    """A batch on its way, until each of its items is accepted or refused for ever."""

    __slots__ = ("_accepted", "_first", "_message", "_open", "_refused", "number", "request", "sent_at")

    def __init__(self, number: int, first: int, message: EventBatch | MetricBatch) -> None:
        """`number`: 1 of the first batch, and so on; `first`: the place of its first item in all that is sent."""
        message.batch_id = number
        self.number, self._first, self._message = number, first, message
        self.request = message  # to be sent: all items, or the items that were put off
        self.sent_at = 0.0  # when the batch was sent last; monotonic
        self._open: Sequence[int] = range(len(self.items))  # which items `request` has
        self._accepted, self._refused = 0, list[RefusedItem]()

    @property
    def items(self) -> Sequence[Item]:
        """All items of the batch, as they are sent: with a time."""
        return items_of(self._message)

    @property
    def left(self) -> Sequence[Item]:
        """The items that are neither accepted nor refused for ever."""
        return [self.items[index] for index in self._open]

    def settle(self, ack: BatchAck) -> Acked | None:
        """Take an ack; None: some items were put off, and are to be sent again (`request`).

        Raises WireError for an ack that does not account for each item.
        """
        places = {rejected.index for rejected in ack.rejected}
        if ack.accepted + len(places) != len(self._open) or len(places) != len(ack.rejected):
            raise WireError(f"an ack of {ack.accepted} and {len(ack.rejected)} items of {len(self._open)}")
        if places and max(places) >= len(self._open):
            raise WireError(f"an ack of item {max(places)} of {len(self._open)}")
        self._accepted += ack.accepted
        later = []
        for rejected in ack.rejected:
            index = self._open[rejected.index]
            if rejected.reason == LATER:
                later.append(index)
            else:
                place, item = self._first + index, self.items[index]
                self._refused.append(RefusedItem(place, rejected.reason, rejected.error, item))
        self._open = sorted(later)
        if later:
            self.request = batch_of(self.left, self.number)
            return None
        return Acked(self._first, self._accepted, sorted(self._refused, key=lambda one: one.index), self.items)


class Batcher:
    """Gathers items of one kind into batches that are full."""

    def __init__(self, pace: Pace) -> None:
        self._most, self._most_bytes = pace.batch_items, pace.batch_bytes
        self._kind: type[Item] | None = None
        self._items: list[Item] = []
        self._size = self._number = self._first = 0

    def add(self, item: Item) -> SentBatch | None:
        """Take an item; returns the batch before it, if that is full, else None. Raises TypeError for an item of
        another kind.
        """
        if self._kind is not type(item):
            if self._kind is not None or not isinstance(item, Event | Metric):
                raise TypeError(f"a {type(item).__name__}: a stream is of events or of metrics, from its first item on")
            self._kind = type(item)
        size = item.ByteSize() + ITEM_OVERHEAD
        full = len(self._items) >= self._most or (self._items and self._size + size > self._most_bytes)
        made = self.rest() if full else None
        self._items.append(item)
        self._size += size
        return made

    def rest(self) -> SentBatch | None:
        """A batch of what has gathered, full or not; None: nothing has."""
        if not self._items:
            return None
        self._number += 1
        made = SentBatch(self._number, self._first, batch_of(self._items))
        self._first += len(self._items)
        self._items, self._size = [], 0
        return made


def batches(items: Iterable[Item], pace: Pace) -> Iterator[SentBatch]:
    """Items of one kind as batches, in their order. Raises TypeError as `Batcher.add`."""
    batcher = Batcher(pace)
    for item in items:
        if made := batcher.add(item):
            yield made
    if made := batcher.rest():
        yield made


def batch_of(items: Sequence[Item], number: int = 0) -> EventBatch | MetricBatch:
    """One message of copies of the items, at least one and all of one kind.

    A metric without a time gets the present time once, in this copy: the gateway would give it the time of each
    arrival, and a metric that is sent twice would be stored twice.
    """
    if isinstance(items[0], Event):
        return EventBatch(batch_id=number, events=cast("Sequence[Event]", items))
    made = MetricBatch(batch_id=number, metrics=cast("Sequence[Metric]", items))
    now = time.time_ns() // 1000
    for metric in made.metrics:
        if not metric.time_us:
            metric.time_us = now
    return made


def items_of(message: EventBatch | MetricBatch) -> Sequence[Item]:
    """The items of a message."""
    return message.events if isinstance(message, EventBatch) else message.metrics
