"""The store: batches of rows in, each stored once and for good, with an answer counted by the database.

A write holds through every outage until it is stored or interrupted. Live rows have `writes_in_flight` lanes, each
a connection with one transaction at a time; writes that find no free lane wait, and small writes then share a
transaction. Live rows that are expected to be new and are many go straight into the table (direct_copy.py), all others
are staged. Late rows have a lane of their own. From here to the SQL: write_queue.py, session.py.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

from app.core.batch.copy_policy import CopyPolicy, PartitionEpoch, distinct
from app.core.batch.effects import Effect, WriteResult
from app.core.model.records import Row
from app.errors import LimitReachedError, TransientError
from app.ports import Lease, Unlimited
from app.postgres.circuit_breaker import Breaker, BreakerState
from app.postgres.events import NoStoreEvents, StoreEvents
from app.postgres.operator_advice import Advice
from app.postgres.probe import Probe
from app.postgres.sqlstate import DATABASE_ERRORS, limit_reached, words
from app.postgres.store.late_horizon import LateHorizon, LateSplit
from app.postgres.store.late_writes import LateWrites
from app.postgres.store.session import Lane, WriteSession
from app.postgres.store.write_queue import PendingWrite, StoreContext, WriteQueue
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


class LiveWrites:
    """Group commit: small writes that wait at the same time share a transaction, each with its own exact answer.

    What has failed in any way is staged at its next try: an outage may have hidden that the rows were stored.
    """

    part = "writes"

    def __init__(self, copy_min_rows: int, direct_min_rows: int = 0, policy: CopyPolicy | None = None) -> None:
        """Rows go straight in from `direct_min_rows` on, if `policy` lets them; 0: never."""
        self._copy_min_rows, self._direct_min_rows = copy_min_rows, direct_min_rows
        self._policy = policy or CopyPolicy()

    def take(self, waiting: deque[PendingWrite]) -> list[PendingWrite]:
        """Take the first write that is still wanted, and writes after it as long as they fit below `copy_min_rows`."""
        group: list[PendingWrite] = []
        total = 0
        while waiting and (not group or total + len(waiting[0].rows) <= self._copy_min_rows):
            pending = waiting.popleft()
            if not pending.answer.done():
                group.append(pending)
                total += len(pending.rows)
        return group

    async def store(self, session: WriteSession, group: Sequence[PendingWrite]) -> int:
        """Store a group and settle each write in it. Raises DATABASE_ERRORS: writes not settled are not stored."""
        direct = self._may_go_direct(group) and await session.direct.fits()
        for pending in group:
            pending.tried = True
        failed, answers = False, None
        if len(group) > 1:
            answers = await self._store_together(session, group, direct)
            failed, direct = direct and answers is None, False
        for index, pending in enumerate(group):
            if answers is not None:
                self._settle(pending, answers[index])
            elif not pending.answer.done():
                await self._store_alone(session, pending, direct, failed)
        return sum(len(pending.rows) for pending in group)

    def _may_go_direct(self, group: Sequence[PendingWrite]) -> bool:
        rows = sum(len(pending.rows) for pending in group)
        return 0 < self._direct_min_rows <= rows and all(
            not pending.tried and self._policy.goes_direct(pending.origin) for pending in group if pending.rows
        )

    async def _store_together(
        self, session: WriteSession, group: Sequence[PendingWrite], direct: bool
    ) -> list[WriteResult] | None:
        writes = [(pending.rows, pending.effects) for pending in group]
        if direct:
            return await session.direct.store_together(writes)
        return await session.store_together(writes, self._copy_min_rows)

    async def _store_alone(self, session: WriteSession, pending: PendingWrite, direct: bool, failed: bool) -> None:
        """`failed`: the rows went straight in with others, which failed."""
        try:
            written = await session.direct.store(pending.rows, pending.effects) if direct else None
            failed = failed or (direct and written is None)
            if written is None:
                written = await session.store(pending.rows, pending.effects, self._copy_min_rows)
        except DATABASE_ERRORS as error:
            if not limit_reached(error) or not pending.rows:
                raise
            self._policy.answered(pending.origin, clean=False)
            pending.fail(LimitReachedError(words(error)))
        else:
            self._settle(pending, written, failed)

    def _settle(self, pending: PendingWrite, written: WriteResult, failed: bool = False) -> None:
        if pending.rows:
            self._policy.answered(pending.origin, clean=not failed and _clean(pending, written))
        pending.settle(written)

    def outage(self, error: BaseException) -> bool:
        """True for every failure: a live write waits for each of them."""
        return True


def _clean(pending: PendingWrite, written: WriteResult) -> bool:
    """Whether COPY into the table would have taken the rows: repeats among themselves are found beforehand."""
    if written.refused or written.refused_effects:
        return False
    if not written.duplicates:
        return True
    once = distinct(pending.rows)
    return once is not None and written.duplicates == len(pending.rows) - len(once)
