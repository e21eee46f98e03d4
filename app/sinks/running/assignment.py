"""Where each partition goes on after a rebalance: what the group, the destination and this process know in, seeks out.

What is held of a partition that stays ours is kept when nobody else has moved it meanwhile. A destination that keeps
offsets itself (files named after them) may be ahead of the group's commit, after a crash between the two.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from app.sinks.port import Sink
from app.sinks.running.books import SinkBooks
from app.sinks.running.closing import SinkClosing
from app.sinks.running.consumer import SinkConsumer
from app.sinks.running.progress import Progress

log = structlog.get_logger()
T = TypeVar("T")

Make = Callable[[str, Callable[[], Awaitable[T]]], Awaitable[T]]  # SinkCalls.make


class Assignment:
    """The partitions of one sink."""

    def __init__(
        self, sink: Sink, consumer: SinkConsumer, progress: Progress, books: SinkBooks, closing: SinkClosing
    ) -> None:
        self._sink, self._consumer, self._progress = sink, consumer, progress
        self._books, self._closing = books, closing

    async def begin(self) -> None:
        """Let go of partitions that others have now, and begin with those that are new, so that their lag is known.

        Raises KAFKA_ERRORS.
        """
        assigned, known = self._consumer.assigned, self._progress.partitions
        if lost := set(known) - assigned:
            await self._drop(lost)
            self._progress.forget(lost)
        fresh = assigned - set(known)
        committed, begins = await self._consumer.positions(fresh)
        for number in fresh & begins.keys():
            self._progress.begin(number, committed.get(number, begins[number]), committed.get(number))

    async def settle(self, topic: str, make: "Make[dict[int, int]]") -> None:
        """Find out where each partition of `topic` goes on, and read on from there; nothing is settled when a rebalance
        comes in between. Raises KAFKA_ERRORS, and SinkUnavailable and TransientError as `make` does.
        """
        epoch, assigned = self._consumer.epoch, self._consumer.assigned
        committed, begins = await self._consumer.positions(assigned)

        async def asked() -> dict[int, int]:
            return dict(await self._sink.resume(topic, assigned))

        known_there = await make("resume", asked)
        if epoch != self._consumer.epoch:
            return
        seeks, moved = dict[int, int](), dict[int, int]()
        for number in assigned & begins.keys():
            known = self._progress.partitions.get(number)
            places = [place[number] for place in (known_there, committed) if number in place]
            at = max(places, default=begins[number] if known is None else known.position)
            # A destination that keeps offsets knows of our own flushes before their dead letters are sent.
            if known is not None and known.settled and at <= max(known.position, self._closing.reached(number)):
                known.committed = committed.get(number)
                seeks[number] = known.read_to
            else:
                seeks[number] = moved[number] = at
        if moved:
            await self._drop(set(moved))
            for number, at in moved.items():
                self._progress.begin(number, at, committed.get(number), settled=True)
        self._consumer.settle(epoch, seeks)
        positions = {number: one.position for number, one in self._progress.partitions.items()}
        log.info("sink_reads", sink=self._sink.name, group=self._consumer.group, positions=positions)

    async def _drop(self, partitions: set[int]) -> None:
        """Others have read on there, or will."""
        self._closing.drop(partitions)
        before = self._sink.held.records
        await self._sink.revoked(partitions)
        self._books.count("revoked", before - self._sink.held.records)
