"""The store: batches of rows in, each stored once and for good, with an answer counted by the database.

A write holds through every outage until it is stored or interrupted. Live rows have `writes_in_flight` lanes, each
a connection with one transaction at a time; writes that find no free lane wait, and small writes then share a
transaction. Late rows have a lane of their own. From here to the SQL: write_queue.py, live_writes.py, session.py.
"""

import asyncio
from collections.abc import Mapping, Sequence

from app.core.batch.copy_policy import CopyPolicy, PartitionEpoch
from app.core.batch.effects import Effect, WriteResult
from app.core.model.records import Row
from app.errors import LimitReachedError, TransientError
from app.ports import Lease, Unlimited
from app.postgres.circuit_breaker import Breaker, BreakerState
from app.postgres.events import NoStoreEvents, StoreEvents
from app.postgres.operator_advice import Advice
from app.postgres.probe import Probe
from app.postgres.store.late_horizon import LateHorizon, LateSplit
from app.postgres.store.late_writes import LateWrites
from app.postgres.store.live_writes import LiveWrites
from app.postgres.store.session import Lane
from app.postgres.store.write_queue import StoreContext, WriteQueue
from app.runtime.interrupt import Interrupt
from app.settings import Settings


class TimescaleStore:
    """ports.Store on PostgreSQL, with or without TimescaleDB. While `interrupt` is set, nothing waits for an outage."""

    def __init__(
        self,
        settings: Settings,
        interrupt: asyncio.Event,
        events: StoreEvents | None = None,
        advice: Advice | None = None,
        lease: Lease | None = None,
        policy: CopyPolicy | None = None,
    ) -> None:
        """`advice` is shared with others that use the database; no transaction begins while `lease` is not held.

        `policy` says which rows go straight into the table.
        """
        self._settings, self._interrupt = settings, interrupt
        self._events: StoreEvents = events or NoStoreEvents()
        self._advice = advice or Advice(self._events)
        self._breaker = Breaker(
            settings.breaker_failures, settings.breaker_reset_min, settings.breaker_reset_max, self._events
        )
        self._horizon = LateHorizon(settings.late_after)
        shared = StoreContext(self._breaker, Interrupt(interrupt), self._horizon, self._advice, self._events)
        lease = lease or Unlimited()
        self._live = WriteQueue(
            [Lane(settings, lease, self._events) for _ in range(settings.writes_in_flight)],
            LiveWrites(settings.copy_min_rows, settings.direct_copy_min_rows, policy),
            shared,
        )
        late = LateWrites(settings.late_batch_rows, settings.copy_min_rows)
        self._late = WriteQueue([Lane(settings, lease, self._events, "late")], late, shared)
        self._late_waiting = 0
        self._probe = Probe(settings, self._breaker)
        self._stopped = False

    async def start(self) -> None:
        """Begin to work, without a connection: the first write connects, and waits if no database answers yet."""
        self._stopped = False
        self._probe.start()

    async def stop(self, seconds: float | None = None) -> None:
        """End all waiting, close the connections; running transactions have `seconds` (shutdown_timeout) to end."""
        self._stopped = True
        self._interrupt.set()
        seconds = self._settings.shutdown_timeout if seconds is None else seconds
        await asyncio.gather(self._live.stop(seconds), self._late.stop(seconds), self._probe.close())

    async def ready(self) -> bool:
        """Whether the database answers within 2 s, and takes writes."""
        return await self._probe.answers() and LiveWrites.part not in self._advice.now

    @property
    def breaker_state(self) -> BreakerState:
        """The state of the circuit breaker."""
        return self._breaker.state

    @property
    def advice(self) -> Mapping[str, str]:
        """{part that is held up: why, and what to do}; empty when all is well."""
        return self._advice.now

    async def write(
        self, rows: Sequence[Row], effects: Sequence[Effect] = (), origin: PartitionEpoch | None = None
    ) -> WriteResult:
        """Store rows, and carry out effects after them in the same transaction; wait out an outage.

        `origin`: where the rows come from, if what came from there before says how likely duplicates are.
        Late rows go apart, in transactions of their own; the answer waits for them too. Raises TransientError once
        `interrupt` is set and the write is not in a transaction at that moment: then the write comes again, whole, and
        its rows that were stored count as duplicates. When a write is cancelled in a transaction, the transaction ends
        on its own.
        """
        if self._stopped:
            raise TransientError("the store is stopped")
        if not rows and not effects:
            return WriteResult()
        late = self._horizon.late(rows)
        if not late:
            try:
                return await self._live.write(rows, effects, origin)
            except LimitReachedError:  # a live row's chunk is compressed
                late = self._horizon.sort(rows, range(len(rows)))
        return await self._write_apart(LateSplit(rows, late), effects, origin)

    async def _write_apart(
        self, split: LateSplit, effects: Sequence[Effect], origin: PartitionEpoch | None
    ) -> WriteResult:
        """Store live rows and effects, and late rows apart from them; a failure of one does not stop the other."""
        live, late = await asyncio.gather(
            self._write_live(split, effects, origin), self._write_late(split.late), return_exceptions=True
        )
        for answer in (live, late):
            if isinstance(answer, BaseException):
                raise answer
        assert isinstance(live, WriteResult)
        assert isinstance(late, WriteResult)
        return split.join(live, late)

    async def _write_live(
        self, split: LateSplit, effects: Sequence[Effect], origin: PartitionEpoch | None
    ) -> WriteResult:
        if not split.live and not effects:
            return WriteResult()
        try:
            return await self._live.write(split.live, effects, origin)
        except LimitReachedError:
            refused = await self._live.write([], effects) if effects else WriteResult()
            written = await self._write_late(split.live)
            return WriteResult(written.rows, written.duplicates, written.refused, refused.refused_effects)

    async def _write_late(self, rows: Sequence[Row]) -> WriteResult:
        self._count(len(rows))
        try:
            return await self._late.write(rows)
        finally:
            self._count(-len(rows))

    def _count(self, rows: int) -> None:
        self._late_waiting += rows
        self._events.late_rows(self._late_waiting)
