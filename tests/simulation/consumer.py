"""The real transport (app.stream.transport.BatchConsumer) without Faust's and aiokafka's machinery below it.

Its own functions and parts are taken as they are: what is fetched, how it is cut and followed, acked, committed,
forgotten and sought. Machinery gives them what they ask of Faust: the flow, the assignment, a fetch, a commit.
"""

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from app.stream.batch_reader import BatchReader
from app.stream.batches import BatchLimits
from app.stream.events import NoTransportEvents
from app.stream.in_flight import InFlight
from app.stream.log_book import LogBook
from app.stream.seek_back import SeekBack
from app.stream.transport import BatchConsumer
from tests.simulation.client import Client
from tests.simulation.group import Group
from tests.simulation.kafka import INPUT, Kafka
from tests.simulation.link import Link
from tests.simulation.tables import BrokenPromise
from tests.simulation.world import World

POLL_SECONDS = 30.0
COMMIT_SECONDS = 0.3


class Machinery(Client):
    """What the real functions ask of Faust."""

    _assemble: Callable[[], None]
    _commit_offsets: Callable[..., Awaitable[bool]]
    flight: InFlight
    reader: BatchReader
    Reader: type[BatchReader]
    Seeks: type[SeekBack]

    def __init__(self, world: World, kafka: Kafka, group: Group, link: Link, limits: BatchLimits) -> None:
        super().__init__(world, kafka, group, link)
        self.should_stop = self.flow_active = False
        self.can_resume_flow = asyncio.Event()
        events = NoTransportEvents()
        self.transport = SimpleNamespace(limits=limits, events=events, logs=LogBook(INPUT, events), drain=None)
        self._commit_fut = None
        self.unacked = self._unacked_messages = set[Any]()
        self._committed_offset: dict[TP, int | None] = {}
        self._read_offset: dict[TP, int | None] = {}
        self._active: set[TP] = set()  # of the flow
        self.begun = self.resumed = 0  # rebalances, as they are in truth
        self._committing = asyncio.Lock()
        self.something_done = asyncio.Event()
        self._assemble()

    # -- the assignment and the flow

    def begins(self) -> None:
        """The client's thread begins a rebalance."""
        self.begun += 1
        self._reassigning = True
        self.app.begins()

    def assign(self, generation: int, partitions: frozenset[int]) -> int:
        """What was given in a new generation, from where the group has committed; returns the rebalance's number."""
        self.app.consumer_generation_id = generation
        self._assigned = {TP(INPUT, number) for number in sorted(partitions)}
        self._positions = {tp: self.kafka.committed.get(tp.partition, 0) for tp in self._assigned}
        self._reassigning = False
        self.app.joined = self.app.rebalancing_count
        self._nudge()
        return self.app.joined

    def stop_flow(self) -> None:
        """Nothing is handed over any more; a poll under way goes on."""
        self.flow_active = False
        self.can_resume_flow.clear()

    def resume(self, joined: int) -> None:
        """As StateRecovery ends."""
        self.resumed = self.begun
        self.flow_active = True
        self.can_resume_flow.set()
        self.app.ends(joined)

    def revoked(self) -> None:
        """The loop knows of the rebalance. What the client has stays assigned until the next assignment."""
        self._active = set()
        self.reader.forget()

    def assignment(self) -> set[TP]:
        return self._assigned

    def resume_partitions(self) -> None:
        self._active = set(self._assigned)

    def _get_active_partitions(self) -> set[TP]:
        return self._active

    # -- waiting

    async def wait(self, event: asyncio.Event) -> None:
        await event.wait()

    async def wait_first(self, waiting: Any, timeout: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await waiting

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
    name: part for name, part in vars(BatchConsumer).items() if inspect.isfunction(part) and name not in vars(Machinery)
}
Real: Any = type("Real", (Machinery,), _TAKEN)


class SimSeekBack(SeekBack):
    """Notices a seek back that must never be needed."""

    client: Any

    async def look_again(self, tp: TP) -> None:
        """For the watchdog. There are no markers in these logs."""
        client, flight = self.client, self._flight
        position, expected = client.position(tp), flight.expected.get(tp, 1 << 60)
        known = tp in client.excused or tp in client.under_way or tp in self.markers.looking
        if position > expected and flight.idle(tp) and not known and client.resumed == client.begun:
            raise BrokenPromise(f"P7 {tp.partition}/{expected} to {position} were fetched, and handed to nobody")
        client.excused.discard(tp)
        await super().look_again(tp)


class SimConsumer(Real):  # type: ignore[misc]
    """Notices what must not be handed over."""

    Reader, Seeks = BatchReader, SimSeekBack

    def _assemble(self) -> None:
        super()._assemble()
        self.seek_back.client = self

    def handed_over(self, tp: TP, offset: int) -> None:
        """The agent has it from now on."""
        if self.resumed != self.begun:
            raise BrokenPromise(f"P1 {tp.partition}/{offset} was handed over in a rebalance")
