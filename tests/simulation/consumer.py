"""The real transport (app.adapters.transport.BatchConsumer) without Faust's and aiokafka's machinery below it.

Its own functions are taken as they are: what is fetched, how it is cut and followed, acked, committed, forgotten and
sought. Machinery gives them what they ask of Faust: the flow, the assignment, a fetch, a commit.
"""

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from app.adapters.batches import BatchLimits
from app.adapters.commits import PrefixConsumer
from app.adapters.flight import Flight
from app.adapters.log_book import LogBook
from app.adapters.markers import Markers
from app.adapters.positions import Extent, Position
from app.adapters.transport import BatchConsumer
from app.adapters.transport_events import TransportEvents
from tests.simulation.group import Group
from tests.simulation.kafka import INPUT, Kafka, LogRecord
from tests.simulation.link import Link
from tests.simulation.world import World

FETCH_RECORDS = 6
POLL_SECONDS = 30.0
COMMIT_SECONDS = 0.3


class Machinery:
    """What the real functions ask of Faust."""

    _commit_offsets: Callable[..., Awaitable[bool]]
    _forget: Callable[[], None]

    def __init__(self, world: World, kafka: Kafka, group: Group, link: Link, limits: BatchLimits) -> None:
        self.world, self.kafka, self.group, self.link = world, kafka, group, link
        self.limits, self.events, self.flight = limits, TransportEvents(), Flight(limits)
        self.last_progress: dict[TP, float] = {}
        self.should_stop = self.flow_active = False
        self.can_resume_flow = asyncio.Event()
        self.drain: Callable[[], Awaitable[None]]
        nothing = SimpleNamespace(on_commit=lambda _: None, on_tp_commit=lambda _: None)
        tables = SimpleNamespace(**vars(nothing), actives_ready=True)
        self.app = SimpleNamespace(
            consumer_generation_id=0, rebalancing=True, should_stop=False, tables=tables, monitor=nothing
        )
        self._polled: dict[int, tuple[float, int]] = {}  # when Kafka told where the partition ends, and that
        self.transport = SimpleNamespace(drain=lambda: self.drain())
        self._thread = SimpleNamespace(
            extents=self.extents, seek_to=self.seek_to, rejoin=self.rejoin, reached=self.reached, 
            starts=self.starts, ends=self.ask_ends,
            _consumer=SimpleNamespace(
                last_poll_timestamp=lambda tp: self._polled_ms(tp.partition),
                highwater=lambda tp: self._tide(tp.partition)[1],
            ),
        )  # fmt: skip
        self.logs = LogBook(INPUT, self.events)
        self._markers, self.in_doubt = Markers(self.flight), False
        self._commit_fut, self._last_commit = None, False
        self._room = asyncio.Event()
        self._unacked_messages: set[Any] = set()
        self._committed_offset: dict[TP, int | None] = {}
        self._read_offset: dict[TP, int | None] = {}
        self._assigned: set[TP] = set()
        self._positions: dict[TP, int] = {}
        self._seeks = 0
        self._moved: asyncio.Future[None] | None = None
        self._committing = asyncio.Lock()
        self.something_done = asyncio.Event()
        self.lose_next = False  # the client will drop what it fetches next, and go on behind it

    # -- the assignment and the flow

    def assign(self, generation: int, partitions: frozenset[int]) -> None:
        """What was given in a new generation; where to read follows with perform_seek."""
        self.app.consumer_generation_id = generation
        self._assigned = {TP(INPUT, number) for number in sorted(partitions)}
        self._positions = dict.fromkeys(self._assigned, 0)
        self.flow_active = True
        self.can_resume_flow.set()
        self._nudge()

    def stop_flow(self) -> None:
        """Nothing is fetched any more."""
        self.app.rebalancing, self.flow_active = True, False
        self.can_resume_flow.clear()
        self._nudge()

    def revoked(self) -> None:
        """The partitions are somebody else's."""
        self._assigned, self._positions = set(), {}
        self._forget()

    def assignment(self) -> set[TP]:
        return self._assigned

    def _get_active_partitions(self) -> set[TP]:
        return self._assigned

    # -- fetching

    def highwater(self, tp: TP) -> int:
        return len(self.kafka.log(INPUT, tp.partition))

    async def seek(self, tp: TP, offset: int) -> None:
        self._positions[tp] = offset
        self._nudge()

    async def wait(self, event: asyncio.Event) -> None:
        await event.wait()

    async def wait_first(self, waiting: Any, timeout: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await waiting

    async def starts(self, tps: list[TP]) -> Mapping[TP, int]:
        starts: Mapping[TP, int] = await self.link.call("starts", lambda: dict.fromkeys(tps, 0))
        return starts

    async def reached(self, tp: TP) -> int | None:
        return self._positions.get(tp)

    async def extents(self, topic: str) -> Mapping[TP, Extent]:
        """What there is to read, and what is committed."""
        while True:
            with contextlib.suppress(*self.world.kafka_errors):
                found: dict[TP, Extent] = await self.link.call("committed offsets", self._extents)
                return found
            await asyncio.sleep(0.5)

    def _extents(self) -> dict[TP, Extent]:
        committed, signatures = self.kafka.committed, self.kafka.signatures
        return {
            tp: Extent(0, self.highwater(tp), committed.get(tp.partition), signatures.get(tp.partition, ""))
            for tp in sorted(self._assigned)
        }

    async def seek_to(self, positions: Mapping[TP, Position]) -> None:
        self._positions |= {tp: position.offset for tp, position in positions.items()}
        self._nudge()

    async def rejoin(self) -> None:
        self.group.rejoin(self.link.life)

    async def _getmany(self, active_partitions: set[TP], timeout: float) -> Mapping[TP, list[LogRecord]]:
        ready = [tp for tp in sorted(active_partitions) if self._positions.get(tp, 1 << 60) < self.highwater(tp)]
        if not ready:
            await self._data(timeout)
            return {}
        seeks, at = self._seeks, dict(self._positions)
        try:
            fetched: dict[TP, list[LogRecord]] = await self.link.call("fetch", lambda: self._fetched(ready, at))
        except self.world.kafka_errors:
            await asyncio.sleep(0.1)
            return {}
        if seeks != self._seeks:
            return {}
        self._note_ends(ready)
        for tp, records in fetched.items():
            self._positions[tp] += len(records)
        if self.lose_next and fetched and not self._markers.looking and not self.flight._healing:
            self.lose_next = False
            self.world.note(self.link.life.name, "the client drops what it fetched")
            return {}
        return fetched

    def _fetched(self, ready: list[TP], at: Mapping[TP, int]) -> dict[TP, list[LogRecord]]:
        return {tp: self.kafka.log(INPUT, tp.partition)[at[tp] :][:FETCH_RECORDS] for tp in ready}

    def _note_ends(self, tps: Iterable[TP]) -> None:
        now = self.world.wall()
        self._polled |= {tp.partition: (now, self.highwater(tp)) for tp in tps}

    def _tide(self, partition: int) -> tuple[float | None, int | None]:
        """What the client knows of a partition's end, and since when; while it waits it asks again all the time."""
        if self._moved is not None and not self._moved.done() and "kafka" not in self.world.down:
            self._note_ends(self._assigned)
        return self._polled.get(partition, (None, None))

    def _polled_ms(self, partition: int) -> int | None:
        seconds, _ = self._tide(partition)
        return None if seconds is None else int(seconds * 1000)

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

    # -- committing

    async def committing(self) -> None:
        """Commit what is done, a moment after something is. Faust does so once a second, whatever is."""
        while True:
            await self.something_done.wait()
            await asyncio.sleep(COMMIT_SECONDS)
            if not self.app.rebalancing:
                self.something_done.clear()
                if not await self.commit_and_end_transactions():
                    self.something_done.set()

    async def commit_and_end_transactions(self) -> bool:
        """Commit the done prefix of each partition; False when that failed."""
        async with self._committing:
            done = {tp: offset for tp, offset in self.flight.done.items() if self._committed_offset.get(tp) != offset}
            return not done or await self._commit_offsets(done)

    async def _commit(self, offsets: Mapping[TP, OffsetAndMetadata]) -> bool:
        generation = self.app.consumer_generation_id
        by_number = {tp.partition: one.offset for tp, one in offsets.items()}
        signed = {tp.partition: one.metadata for tp, one in offsets.items()}
        try:
            await self.link.call(
                f"commit {by_number}", lambda: self.group.commit(self.link.life, generation, by_number, signed)
            )
        except self.world.kafka_errors:
            return False
        return True


_TAKEN = {
    name: part
    for real in (PrefixConsumer, BatchConsumer)
    for name, part in vars(real).items()
    if inspect.isfunction(part) and name != "__init__"
}
SimConsumer: Any = type("SimConsumer", (Machinery,), _TAKEN)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
