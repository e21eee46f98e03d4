"""Bugs in the states of devices: where states are stored, alerts, change of value, rolling windows, inactivity."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any
from unittest import mock

import msgspec

from app.core.batch.batch import Batch
from app.core.batch.output import BatchOutput
from app.core.decode.decoder import DecodeLimits
from app.core.model.alert_event import AlertEvent
from app.core.model.inactivity_claim import InactivityClaim
from app.core.model.records import Reading, Record
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PREFIX
from app.core.presence.registry import PresenceRegistry
from app.core.presence.tracker import PresenceTracker
from app.core.processing import sampled_step
from app.core.processing.cached_device import PartitionState
from app.core.processing.device_cache import DeviceCache, Load
from app.core.processing.processor import Processor
from app.core.processing.sampled_step import Rules
from app.core.sampling.policy import Sampling
from app.core.schema.schema import Schema
from app.core.state.device_state import DeviceState, decode, encode
from app.core.state.keys import MARK_KEY
from app.core.state.samples import Samples
from app.core.user_config.rulebook import RuleBook
from app.errors import TransientError
from app.pipeline.partition_queue import StoreOutcome
from app.pipeline.pipeline import Pipeline
from app.ports import Seconds
from tests.simulation.kafka import LogRecord
from tests.simulation.parts import SimStates


class ForgetsTheAppliedOffset(SimStates):
    async def put(self, states: Mapping[int, Mapping[bytes, bytes]]) -> None:
        await super().put({partition: dict(map(_without_offset, of_it.items())) for partition, of_it in states.items()})


def _without_offset(item: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    key, value = item
    if key == MARK_KEY:
        return item
    state = decode(value)
    state.applied_offset = -1
    return key, encode(state)


class AlertsAgainOnReplay(SimStates):
    def get(self, partition: int, key: bytes) -> bytes | None:
        return None


class TakesTheLastState(SimStates):
    def recover(self, partition: int, records: Sequence[LogRecord]) -> None:
        self._disk.write(partition, {record.key or b"": record.value for record in records}, records[-1].offset)


class SkipsForeignStates(SimStates):
    def _follows(self, partition: int, count: int, last: int) -> bool:
        return True


class KeepsStateOverRebalances(Processor):
    def __init__(
        self, limits: DecodeLimits, schema: Schema, rules: RuleBook, load: Load, classes: DeviceClasses, **options: Any
    ) -> None:
        super().__init__(limits, schema, rules, load, classes, **options)
        _keep_in(self, _OfEveryEpoch(rules, load, classes, options["in_memory"], options["log_of"]))


def _keep_in(processor: Processor, devices: DeviceCache) -> None:
    processor.partitions = processor._devices = processor._other._devices = devices


class _OfEveryEpoch(DeviceCache):
    def partition(self, epoch: int, number: int) -> PartitionState:
        self._epoch = epoch
        return super().partition(epoch, number)


class ForgetsDevicesOfAnUnclosedBatch(Processor):
    def __init__(
        self, limits: DecodeLimits, schema: Schema, rules: RuleBook, load: Load, classes: DeviceClasses, **options: Any
    ) -> None:
        super().__init__(limits, schema, rules, load, classes, **options)
        _keep_in(self, _TooForgetful(rules, load, classes, options["in_memory"], options["log_of"]))


class _TooForgetful(DeviceCache):
    def partition(self, epoch: int, number: int) -> PartitionState:
        found = super().partition(epoch, number)
        found.closed = 1 << 62
        return found


class TakesWhatIsProcessedForStored(Processor):
    def run_sliced(self, batch: Batch, now: float) -> Generator[None, None, BatchOutput]:
        work = yield from super().run_sliced(batch, now)
        self.closed(batch)
        return work


class PutsBeforeRows(Pipeline):
    """A pipeline whose `_put` has its turn before step 3."""

    async def _store(self, batch: Batch, work: BatchOutput, previous: Any, seconds: Seconds) -> StoreOutcome:
        try:
            await self._follow(previous)
            await self._put(batch, work)
        except TransientError as error:
            self._ports.ledger.batch_given_up(batch, str(error))
            return StoreOutcome.INTERRUPTED
        return await super()._store(batch, work, previous, seconds)

    async def _put(self, batch: Batch, work: BatchOutput) -> None:
        raise NotImplementedError


class PutsLastValuesBeforeRows(PutsBeforeRows):
    """As if change of value had a table of its own, written before the rows."""

    async def _put(self, batch: Batch, work: BatchOutput) -> None:
        states: Any = self._ports.states
        for key, value in work.states.items():
            if not key.startswith(b"\0") and (samples := decode(value).samples) is not None:
                before = states.get(batch.partition, key)
                state = decode(before) if before else DeviceState()
                state.samples = Samples(samples.chain, state.samples.windows if state.samples else {})
                await states.put({batch.partition: {key: encode(state)}})


class ForgetsWhatItLeftOut(SimStates):
    def get(self, partition: int, key: bytes) -> bytes | None:
        value = super().get(partition, key)
        if value is None or key.startswith(b"\0"):
            return value
        state = decode(value)
        if state.samples is not None and state.samples.chain is not None:
            state.samples.chain.since = state.applied_offset + 1
        return encode(state)


class CountsAgainOnReplay(Processor):
    def run_sliced(self, batch: Batch, now: float) -> Generator[None, None, BatchOutput]:
        steps = super().run_sliced(batch, now)
        while True:
            with mock.patch("app.core.processing.reading_step.evaluate_sampled", _counts_again):
                try:
                    next(steps)
                except StopIteration as done:
                    work: BatchOutput = done.value
                    return work
            yield


def _counts_again(
    state: DeviceState, reading: Reading, asked: Sampling, rules: Rules, offset: int, at: int
) -> tuple[tuple[AlertEvent, ...], bool]:
    if offset <= state.applied_offset and state.samples is not None:
        sampled_step._count(state, state.samples, reading, asked)
    return sampled_step.evaluate_sampled(state, reading, asked, rules, offset, at)


class KeepsAClaimAfterASign(Processor):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._other._tracker = _Deaf(60.0, lambda *_: False)


class _Deaf(PresenceTracker):
    def on_inactivity_claim(
        self, work: BatchOutput, registry: PresenceRegistry, claim: InactivityClaim, record: Record, at: int
    ) -> bool:
        presence = registry.known((claim.user_id, claim.device_id))
        if presence is not None:
            presence.seen = presence.applied = -1
        return super().on_inactivity_claim(work, registry, claim, record, at)


class ForgetsThatSilenceWasTold(SimStates):
    def get(self, partition: int, key: bytes) -> bytes | None:
        value = super().get(partition, key)
        if value is None or not key.startswith(PREFIX):
            return value
        version, applied, online, _, *more = msgspec.msgpack.decode(value)
        return msgspec.msgpack.encode((version, applied, online, False, *more))


class GoesStaleAgainAfterARestart(SimStates):
    def get(self, partition: int, key: bytes) -> bytes | None:
        value = super().get(partition, key)
        if value is None or key.startswith(b"\0"):
            return value
        state = decode(value)
        for episode in state.episodes.values():
            episode.stale = False
        return encode(state)
