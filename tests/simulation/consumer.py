"""The real transport (app.stream.transport.BatchConsumer) without Faust's and aiokafka's machinery below it.

Its own functions are taken as they are: what is fetched, how it is cut and followed, acked, committed, forgotten and
sought. Machinery gives them what they ask of Faust: the flow, the assignment, a fetch, a commit.
"""

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from app.stream.batches import BatchLimits
from app.stream.events import NoTransportEvents
from app.stream.in_flight import InFlight
from app.stream.log_book import LogBook
from app.stream.prefix_commit import PrefixConsumer
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

    _commit_offsets: Callable[..., Awaitable[bool]]
    _forget: Callable[[], None]

    def __init__(self, world: World, kafka: Kafka, group: Group, link: Link, limits: BatchLimits) -> None:
        super().__init__(world, kafka, group, link, InFlight(limits))
        self.limits, self.events = limits, NoTransportEvents()
        self.logs, self.in_doubt = LogBook(INPUT, self.events), False
        self.last_progress: dict[TP, float] = {}
        self.should_stop = self.flow_active = False
        self.can_resume_flow = asyncio.Event()
        self.drain: Callable[[], Awaitable[None]]
        self.transport = SimpleNamespace(drain=lambda: self.drain())
        self._owed: set[TP] = set()
        self._asked = (0, 0)
        self._commit_fut, self._last_commit = None, False
        self._room = asyncio.Event()
        self._unacked_messages: set[Any] = set()
        self._committed_offset: dict[TP, int | None] = {}
        self._read_offset: dict[TP, int | None] = {}
        self._active: set[TP] = set()  # of the flow
        self.begun = self.resumed = 0  # rebalances, as they are in truth
        self._committing = asyncio.Lock()
        self.something_done = asyncio.Event()

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
        """The loop has heard of it. What the client has stays assigned until it is given something else."""
        self._active = set()
        self._forget()

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
    name: part
    for real in (PrefixConsumer, BatchConsumer)
    for name, part in vars(real).items()
    if inspect.isfunction(part) and name != "__init__"
}
Real: Any = type("Real", (Machinery,), _TAKEN)


class SimConsumer(Real):  # type: ignore[misc]
    """What nobody must have to mend, and what must not be handed over, is noticed here."""

    async def look_again(self, tp: TP) -> None:
        """For the watchdog. There are no markers in these logs."""
        position, expected = self._positions.get(tp, 0), self.flight.expected.get(tp, 1 << 60)
        known = tp in self.excused or tp in self.under_way or tp in self._markers.looking
        if position > expected and self.flight.idle(tp) and not known and self.resumed == self.begun:
            raise BrokenPromise(f"P7 {tp.partition}/{expected} to {position} were fetched, and handed to nobody")
        self.excused.discard(tp)
        await super().look_again(tp)

    def handed_over(self, tp: TP, offset: int) -> None:
        """The agent has it from now on."""
        if self.resumed != self.begun:
            raise BrokenPromise(f"P1 {tp.partition}/{offset} was handed over in a rebalance")
