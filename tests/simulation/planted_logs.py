"""Bugs in what is known of the logs themselves: which one offsets are of, a changelog gone, states nobody can read."""

from collections.abc import Callable
from typing import Any

from faust.types import TP
from msgspec import structs

from app.core.processing.cached_device import PartitionState
from app.core.processing.device_cache import DeviceCache
from app.core.processing.processor import Processor
from app.core.state.device_state import DeviceState, decode
from app.core.state.partition_log import NotedLog, PartitionLog, PresentLog, Verdict
from app.stream.log_book import LogBook
from app.stream.rebalance.start_position import Extent, Position
from tests.simulation.parts import SimStates


class LooksAtTheEndAlone(LogBook):
    """As if a log that is long enough were the same one."""

    def _place(self, tp: TP, extent: Extent, before: NotedLog, now: PresentLog) -> tuple[Position, Verdict]:
        unsigned = Extent(extent.start, extent.end, extent.committed)
        return super()._place(tp, unsigned, structs.replace(before, identity=now.identity), now)


class KeepsItsOffsetsInAnotherLog(LogBook):
    def of(self, partition: int) -> PartitionLog:
        return structs.replace(super().of(partition), generation=0)


class TakesEveryLogForTheFirst(LogBook):
    """As if it had not noted anything."""

    def _before(self, partition: int) -> NotedLog:
        return structs.replace(super()._before(partition), generation=0, identity="", offset=-1)


class LeavesStatesOutOfANewChangelog(SimStates):
    async def move(self, partition: int, identity: str, ours: Callable[[], bool] = lambda: True) -> None:
        self._store.held(partition, identity)
        self.begun_anew.discard(partition)


class DropsStatesOfAnotherChangelog(SimStates):
    async def recovered(self, partition: int, identity: str) -> None:
        if partition in self._disk.homeless:
            self._disk.states.pop(partition, None)
        self._store.held(partition, identity)


class EndsAtAStateItCannotRead(Processor):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        devices = self.partitions
        devices.__class__ = _Strict


class _Strict(DeviceCache):
    def _read(self, partition: PartitionState, key: bytes, stored: bytes) -> DeviceState:
        state = decode(stored)
        if state.log != partition.log.generation:
            state.begin_anew(partition.log.generation)
        return state
