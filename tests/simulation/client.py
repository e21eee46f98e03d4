"""The Kafka client below the transport, in its thread: what it has fetched, where it reads on, what Kafka has answered.

What the client does and learns takes a moment until it reaches the loop, and a poll goes on over a rebalance.
"""

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import IllegalStateError, UnknownTopicOrPartitionError
from faust.types import TP

from app.stream.rebalance.rounds import RebalanceRounds
from app.stream.rebalance.start_position import Extent
from app.stream.seek_back import SeekBack
from tests.simulation.group import Group
from tests.simulation.kafka import INPUT, Kafka, LogRecord
from tests.simulation.link import Link
from tests.simulation.world import World

FETCH_RECORDS = 6
CROSSING_SECONDS = 0.02  # at most, from the client's thread to the loop


class SimApp(RebalanceRounds):
    """What the transport asks of the Faust app."""

    def __init__(self) -> None:
        nothing = SimpleNamespace(on_commit=lambda _: None, on_tp_commit=lambda _: None)
        self.tables = SimpleNamespace(**vars(nothing), actives_ready=True)
        self.monitor = nothing
        self.assignor = SimpleNamespace(hold=False)
        self.consumer_generation_id = 0
        self.should_stop = False

    def begins(self) -> None:
        """A rebalance does. In the client's thread."""
        self.rebalancing_count += 1

    def ends(self, number: int) -> None:
        """The states and positions that came with rebalance `number` are there."""
        self.ended = number


class Client:
    """aiokafka's consumer, and Faust's thread around it."""

    app_class: type[SimApp] = SimApp

    seek_back: SeekBack

    def __init__(self, world: World, kafka: Kafka, group: Group, link: Link) -> None:
        self.world, self.kafka, self.group, self.link = world, kafka, group, link
        self.app = self.app_class()
        self.offsets: Any = SimpleNamespace(
            extents=self.extents, seek_to=self.seek_to, rejoin=self.rejoin, reached=self.reached,
            starts=self.starts, ends=self.ask_ends, log_ends=self.ask_ends,
        )  # fmt: skip
        assignment = SimpleNamespace(state_value=self._reported)
        self.client = SimpleNamespace(
            _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
        )
        self._assigned: set[TP] = set()
        self._reassigning = False
        self._positions: dict[TP, int] = {}
        self._polled: dict[int, tuple[float, int]] = {}  # when Kafka said where the partition ends, and where
        self._seeks = 0
        self._moved: asyncio.Future[None] | None = None
        self.late = 0.0  # seconds until the loop learns what the client's thread does next
        self.under_way: Collection[TP] = ()  # what the client has taken of these, the loop does not know yet
        self.lose_next = False  # the client will drop what it fetches next, and go on behind it
        self.excused: set[TP] = set()  # whose records the client has lost, and nobody else

    async def crossing(self) -> None:
        """What the client's thread has done reaches the loop: in a moment, or when the loop has time again."""
        seconds, self.late = self.late or self.world.random.random() * CROSSING_SECONDS, 0.0
        await asyncio.sleep(seconds)

    def highwater(self, tp: TP) -> int:
        return len(self.kafka.log(INPUT, tp.partition))

    async def seek_to(self, offsets: Mapping[TP, int], rebalances: int) -> Collection[TP]:
        """As Offsets does it."""
        ours = self._assigned if self.app.rebalancing_count == rebalances else set()
        sought = [tp for tp in offsets if tp in ours]
        for tp in sought:
            self._positions[tp] = offsets[tp]
            self._nudge()
        return sought

    def position(self, tp: TP) -> int:
        """The offset it reads next; 0 when the partition is not assigned."""
        return self._positions.get(tp, 0)

    async def starts(self, tps: list[TP]) -> Mapping[TP, int]:
        starts: Mapping[TP, int] = await self.link.call("starts", lambda: dict.fromkeys(tps, 0))
        return starts

    async def reached(self, tp: TP) -> int | None:
        return self._positions.get(tp)

    async def extents(self, topic: str) -> Mapping[TP, Extent]:
        """What there is to read, and what is committed. Raises as Offsets does."""
        rebalances = self.app.rebalancing_count
        while True:
            with contextlib.suppress(*self.world.kafka_errors):
                found: dict[TP, Extent] = await self.link.call("committed offsets", self._extents)
                break
            await asyncio.sleep(0.5)
        if self.app.rebalancing_count != rebalances:
            raise IllegalStateError("the group rebalances again")
        return found

    def _there(self) -> None:
        if INPUT in self.kafka.missing:
            raise UnknownTopicOrPartitionError(INPUT)

    def _extents(self) -> dict[TP, Extent]:
        self._there()
        committed, signatures = self.kafka.committed, self.kafka.signatures
        return {
            tp: Extent(0, self.highwater(tp), committed.get(tp.partition), signatures.get(tp.partition, ""))
            for tp in sorted(self._assigned)
        }

    async def rejoin(self) -> None:
        self.group.rejoin(self.link.life)

    async def _getmany(self, active_partitions: set[TP], timeout: float) -> Mapping[TP, list[LogRecord]]:
        """A poll. Where a rebalance comes it waits for the next assignment, and goes on with that."""
        until = self.world.loop.now + timeout
        while True:
            ready = [tp for tp in sorted(active_partitions & self._assigned) if self._readable(tp)]
            if ready and (fetched := await self._take(ready)) is not None:
                self.under_way = fetched.keys()
                await self.crossing()
                self.under_way = ()
                return fetched
            if not ready:
                await self._data(max(0.0, until - self.world.loop.now))
            if self.world.loop.now >= until:
                return {}

    def _readable(self, tp: TP) -> bool:
        if self._positions[tp] > self.highwater(tp):  # out of range, says Kafka, and the client begins at the start
            self._positions[tp] = 0
        return not self._reassigning and self._positions[tp] < self.highwater(tp)

    async def _take(self, ready: list[TP]) -> Mapping[TP, list[LogRecord]] | None:
        """Fetch, and move the positions on; None when a seek or a rebalance was quicker."""
        seeks, at = self._seeks, dict(self._positions)
        try:
            fetched: dict[TP, list[LogRecord]] = await self.link.call("fetch", lambda: self._fetched(ready, at))
        except self.world.kafka_errors:
            await asyncio.sleep(0.1)
            return {}
        if seeks != self._seeks:
            return None
        self._note_ends(ready)
        for tp, records in fetched.items():
            self._positions[tp] += len(records)
        if self.lose_next and fetched and not self.seek_back.markers.looking and not self.seek_back._flight._healing:
            self.lose_next = False
            self.excused.update(fetched)
            self.world.note(self.link.life.name, "the client drops what it fetched")
            return {}
        return fetched

    def _fetched(self, ready: list[TP], at: Mapping[TP, int]) -> dict[TP, list[LogRecord]]:
        self._there()
        return {tp: self.kafka.log(INPUT, tp.partition)[at[tp] :][:FETCH_RECORDS] for tp in ready}

    def _note_ends(self, tps: Iterable[TP]) -> None:
        now = self.world.wall()
        self._polled |= {tp.partition: (now, self.highwater(tp)) for tp in tps}

    def _tide(self, partition: int) -> tuple[float | None, int | None]:
        """What the client knows of a partition's end, and since when; while it waits it asks again all the time."""
        if self._moved is not None and not self._moved.done() and "kafka" not in self.world.down:
            self._note_ends(self._assigned)
        return self._polled.get(partition, (None, None))

    def _reported(self, tp: TP) -> Any:
        """What the client knows of a partition, as app.kafka.fetch.fetcher asks for it."""
        if tp not in self._assigned:
            return None
        seconds, end = self._tide(tp.partition)
        return SimpleNamespace(timestamp=None if seconds is None else int(seconds * 1000), highwater=end)

    async def _data(self, timeout: float) -> None:
        """Wait for a record, a seek or a change of the assignment."""
        self._moved = moved = self.world.loop.create_future()
        self.kafka.waiting.append(moved)
        timer = self.world.loop.call_later(timeout, _settle, moved)
        await moved
        timer.cancel()

    async def ask_ends(self, tps: list[TP]) -> Mapping[TP, int]:
        ends: Mapping[TP, int] = await self.link.call("ends", lambda: {tp: self.highwater(tp) for tp in tps})
        return ends

    def _nudge(self) -> None:
        self._seeks += 1
        if self._moved is not None:
            _settle(self._moved)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
