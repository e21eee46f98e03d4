"""Bugs for the simulator to find: each a small variation of the real code, as somebody might write it.

`python -m tests.simulation.search` says which seed finds each.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import asyncpg
from msgspec.structs import replace

from app.core.batch.batch import Batch
from app.core.batch.copy_policy import PartitionEpoch
from app.core.batch.effects import Effect, WriteResult
from app.core.batch.output import BatchOutput
from app.core.deadletters.limit import DeadLetterLimit
from app.core.model.headers import REDELIVERED
from app.core.model.records import Rejected, Row
from app.errors import TransientError
from app.kafka.dead_letter_reader import RecentDeadLetters
from app.kafka.dead_letters import KafkaDeadLetters
from app.kafka.messages import PendingSend, Sent
from app.kafka.producer import Producer
from app.kafka.session_lease import SessionLease
from app.ops.ledger import BatchLedger
from app.pipeline.finalizer import Finalizer, StoredBatch
from app.pipeline.partition_queue import StoreOutcome
from app.pipeline.pipeline import Pipeline
from app.ports import Lease, Seconds
from app.postgres.circuit_breaker import BreakerState
from app.postgres.store.direct_copy import DirectCopy
from app.postgres.store.store import LiveWrites, TimescaleStore
from app.postgres.store.write_queue import PendingWrite
from app.settings import Settings
from app.stream.batch_reader import BatchReader
from tests.simulation import planted_clocks as clocks
from tests.simulation import planted_logs as logs
from tests.simulation import planted_splits as splits
from tests.simulation import planted_states as remembered
from tests.simulation.client import SimApp
from tests.simulation.consumer import SimConsumer, SimSeekBack
from tests.simulation.parts import NeverEnds, Parts, Unleased

PLANTED: dict[str, type[Parts]] = {}
STALLED: dict[str, type[Parts]] = {}  # bugs that only a stalled worker shows: tests.simulation.exhaustive finds them


def plant(port: str, *bugs: type, into: dict[str, type[Parts]] = PLANTED, among: type[Parts] = Parts) -> None:
    """Name a worker with a bug after the part that has it."""
    for bug in bugs:
        into[bug.__name__] = type(bug.__name__, (among,), {port: bug})


class AcksBeforeItStores(Pipeline):
    async def _store(self, batch: Batch, work: BatchOutput, previous: Any, seconds: Seconds) -> StoreOutcome:
        await batch.ack()
        return await super()._store(batch, work, previous, seconds)


class PutsStateBeforeRows(remembered.PutsBeforeRows):
    async def _put(self, batch: Batch, work: BatchOutput) -> None:
        await self._ports.states.put({batch.partition: work.states})


class PutsStateBeforeAlerts(Pipeline):
    async def _close(self, together: list[StoredBatch]) -> None:
        for one in together:
            await self._ports.states.put({one.batch.partition: one.work.states})
        await super()._close(together)


class AcksBeforeState(Pipeline):
    async def _close(self, together: list[StoredBatch]) -> None:
        for one in together:
            await one.batch.ack()
        await super()._close(together)


class ClosesInAnyOrder(Pipeline):
    async def _close(self, together: list[StoredBatch]) -> None:
        await super()._close(together[::-1])


class GoesOnAfterABatchGivenUp(Pipeline):
    async def _follow(self, previous: Any) -> None:
        if previous is not None and not previous.done():
            await asyncio.wait({previous})


class ClosesALostEpoch(Pipeline):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._finalizer = _Careless(self._close, self._spawn, self._ports.ledger.batch_given_up)


class _Careless(Finalizer):
    def add(self, stored: StoredBatch) -> None:
        self.lost_epoch = -1
        super().add(stored)


class DoesNotAwaitDeadLetters(KafkaDeadLetters):
    async def send(self, batch: Batch, rejected: Sequence[Rejected]) -> None:
        if rejected:
            self.task = asyncio.ensure_future(super().send(batch, rejected))


class SendsDeadLettersAgain(KafkaDeadLetters):
    async def _recent_of(self, batch: Batch, target: int | None) -> RecentDeadLetters:
        return (await super()._recent_of(batch, target))._replace(payloads={}, marks=set())


class TakesRedeliveriesForNew(KafkaDeadLetters):
    async def send(self, batch: Batch, rejected: Sequence[Rejected]) -> None:
        await super().send(batch, [_first_time(one) for one in rejected])


def _first_time(one: Rejected) -> Rejected:
    headers = [(name, value) for name, value in one.record.headers if name != REDELIVERED]
    return replace(one, record=replace(one.record, headers=headers))


class DeadLettersAnOutage(TimescaleStore):
    async def write(
        self, rows: Sequence[Row], effects: Sequence[Effect] = (), origin: PartitionEpoch | None = None
    ) -> WriteResult:
        if self.breaker_state is not BreakerState.CLOSED:
            return WriteResult(refused=tuple((index, "the database is down") for index in range(len(rows))))
        return await super().write(rows, effects, origin)


class RefusesTheWholeBatch(TimescaleStore):
    async def write(
        self, rows: Sequence[Row], effects: Sequence[Effect] = (), origin: PartitionEpoch | None = None
    ) -> WriteResult:
        written = await super().write(rows, effects, origin)
        if not written.refused:
            return written
        return WriteResult(refused=tuple((index, "the batch failed") for index in range(len(rows))))


class TakesGivingUpForStored(TimescaleStore):
    async def write(
        self, rows: Sequence[Row], effects: Sequence[Effect] = (), origin: PartitionEpoch | None = None
    ) -> WriteResult:
        try:
            return await super().write(rows, effects, origin)
        except TransientError:
            return WriteResult(len(rows))


class TakesAViolationForDuplicates(TimescaleStore):
    def __init__(self, settings: Settings, interrupt: asyncio.Event, lease: Lease) -> None:
        super().__init__(settings, interrupt, lease=lease)
        self._live._work = _Hasty(settings.copy_min_rows, settings.direct_copy_min_rows)


class _Hasty(LiveWrites):
    async def store(self, session: Any, group: Sequence[PendingWrite]) -> int:
        session.direct.__class__ = _HastyCopy
        return await super().store(session, group)


class _HastyCopy(DirectCopy):
    """Of a COPY that met a row that is there already, all rows are duplicates; the new ones are lost."""

    async def _copy(self, rows: Sequence[Row]) -> int:
        try:
            return await super()._copy(rows)
        except asyncpg.UniqueViolationError:
            return 0


class CountsWhatAFailedCopySent(TimescaleStore):
    def __init__(self, settings: Settings, interrupt: asyncio.Event, lease: Lease) -> None:
        super().__init__(settings, interrupt, lease=lease)
        self._live._work = _Hopeful(settings.copy_min_rows, settings.direct_copy_min_rows)


class _Hopeful(LiveWrites):
    """Nothing is lost; but rows that were there already, and were staged for it, count as stored."""

    def _settle(self, pending: PendingWrite, written: WriteResult, failed: bool = False) -> None:
        if failed:
            sent = written.rows + written.duplicates
            written = WriteResult(sent, 0, written.refused, written.refused_effects)
        super()._settle(pending, written, failed)


class AsksForTheLeaseOnceOnly(TimescaleStore):
    def __init__(self, settings: Settings, interrupt: asyncio.Event, lease: Lease) -> None:
        super().__init__(settings, interrupt)


class _HeadlessReader(BatchReader):
    async def _contiguous(self, tp: Any, records: list[Any]) -> list[Any]:
        return records


class LosesTheHead(SimConsumer):
    Reader = _HeadlessReader


class _RememberingReader(BatchReader):
    def forget(self) -> None:
        self.room.set()


class RemembersAcrossRebalances(SimConsumer):
    Reader = _RememberingReader


class CommitsWhatItFetched(SimConsumer):
    async def commit_and_end_transactions(self) -> bool:
        self.flight.done.update(self.flight.expected)
        done: bool = await super().commit_and_end_transactions()
        return done


class _DroppingSeekBack(SimSeekBack):
    async def put_back(self) -> None:
        self.owed.clear()
        await super().put_back()


class DropsWithoutSeekingBack(SimConsumer):
    Seeks = _DroppingSeekBack


class _MarkingSeekBack(SimSeekBack):
    async def put_back(self) -> None: ...

    async def look_again(self, tp: Any) -> None:
        self.markers.look(tp)
        self.markers.reached(tp, await self._offsets.reached(tp))


class TakesWhatItDroppedForMarkers(SimConsumer):
    Seeks = _MarkingSeekBack


class _OneFlag(SimApp):
    flag = True
    rebalancing = property(lambda self: self.flag, lambda self, _: None)

    def begins(self) -> None:
        self.flag = True

    def ends(self, number: int) -> None:
        self.flag = False


class HasOneFlagForAllRebalances(SimConsumer):
    app_class = _OneFlag


class CountsDuplicatesAsStored(BatchLedger):
    def batch_done(self, batch: Batch, work: BatchOutput, written: WriteResult, seconds: Seconds) -> None:
        all_stored = WriteResult(written.rows + written.duplicates, 0, written.refused, written.refused_effects)
        super().batch_done(batch, work, all_stored, seconds)


class RenewsALostLease(SessionLease):
    def renew(self, asked: float) -> None:
        self._ended = -math.inf
        super().renew(asked)


class TakesOffTheWrongMessages(Producer):
    async def _send_once(self, topic: str, unsent: PendingSend) -> None:
        unsent.__class__ = _FromTheWrongEnd
        await super()._send_once(topic, unsent)


class _FromTheWrongEnd(PendingSend):
    def settle(self, sent: Sequence[Sent]) -> BaseException | None:
        parts = {partition: list(messages) for partition, messages in (self._parts or {}).items()}
        failure = super().settle(sent)
        for partition, messages in (self._parts or {}).items():
            messages[:] = parts[partition][: len(messages)]
        return failure


class CountsAUserInFull(DeadLetterLimit):
    def __init__(self, row: int, ratio: float, window: int, *_: object) -> None:
        super().__init__(row, ratio, window, 1.0)


plant(
    "pipeline", AcksBeforeItStores, PutsStateBeforeRows, PutsStateBeforeAlerts, AcksBeforeState, ClosesInAnyOrder,
    GoesOnAfterABatchGivenUp, ClosesALostEpoch,
)  # fmt: skip
plant("pipeline", remembered.PutsLastValuesBeforeRows)
plant("pipeline", splits.AcksAWholeWithItsFirstPart, splits.LosesWhatIsLeftOver)
plant("processor", splits.TellsBatchesByTheirEnd)
plant(
    "states", remembered.ForgetsTheAppliedOffset, remembered.AlertsAgainOnReplay, remembered.ForgetsWhatItLeftOut,
    remembered.ForgetsThatSilenceWasTold, remembered.GoesStaleAgainAfterARestart,
)  # fmt: skip
plant("states", remembered.TakesTheLastState, remembered.SkipsForeignStates, into=STALLED, among=Unleased)
plant("lease", NeverEnds, into=STALLED)
plant(
    "processor", remembered.KeepsStateOverRebalances, remembered.ForgetsDevicesOfAnUnclosedBatch,
    remembered.TakesWhatIsProcessedForStored, remembered.CountsAgainOnReplay, remembered.KeepsAClaimAfterASign,
)  # fmt: skip
plant("processor", clocks.HoldsTimesToTheClock, clocks.TakesHistoryForASetBack, clocks.TakesRedeliveriesForReadings)
plant("processor", clocks.GivesAnIdTwice)
plant("states", clocks.ForgetsTheRun)
plant("dead_letters", DoesNotAwaitDeadLetters, SendsDeadLettersAgain, TakesRedeliveriesForNew)
plant("store", DeadLettersAnOutage, RefusesTheWholeBatch, TakesGivingUpForStored, AsksForTheLeaseOnceOnly)
plant("store", TakesAViolationForDuplicates, CountsWhatAFailedCopySent)
plant("consumer", LosesTheHead, RemembersAcrossRebalances, CommitsWhatItFetched)
plant("consumer", DropsWithoutSeekingBack, TakesWhatItDroppedForMarkers, HasOneFlagForAllRebalances)
plant("ledger", CountsDuplicatesAsStored)
plant("lease", RenewsALostLease)
plant("producer", TakesOffTheWrongMessages)
plant("limit", CountsAUserInFull)
plant("logs", logs.LooksAtTheEndAlone, logs.KeepsItsOffsetsInAnotherLog, logs.TakesEveryLogForTheFirst)
plant("states", logs.LeavesStatesOutOfANewChangelog, logs.DropsStatesOfAnotherChangelog)
plant("processor", logs.EndsAtAStateItCannotRead)
