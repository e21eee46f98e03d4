"""Bugs about time: limits by the wrong clock, and what is remembered of a device's clock that was set back."""

from collections.abc import Generator
from typing import Any
from unittest import mock

from app.core.batch.batch import Batch
from app.core.batch.output import Work
from app.core.decode.decoder import Decoder, Limits
from app.core.model.records import Reading, Record, Rejected
from app.core.processing.processor import Processor
from app.core.routing.address import Address
from app.core.state.device_state import decode, encode
from tests.simulation.parts import SimStates


class HoldsTimesToTheClock(Processor):
    """Not to when a record came in."""

    def __init__(self, limits: Limits, *args: Any, **options: Any) -> None:
        super().__init__(limits, *args, **options)
        self._decoder = _Impatient(limits)

    def slices(self, batch: Batch, now: float) -> Generator[None, None, Work]:
        self._decoder.now_ms = int(now * 1000)  # type: ignore[attr-defined]
        return super().slices(batch, now)


class _Impatient(Decoder):
    now_ms = 0

    def decode(self, record: Record, address: Address, at: int) -> Reading | Rejected:
        return super().decode(record, address, self.now_ms)


class ForgetsTheRun(SimStates):
    def get(self, partition: int, key: bytes) -> bytes | None:
        value = super().get(partition, key)
        if value is None or key.startswith(b"\0"):
            return value
        state = decode(value)
        if state.back is not None:
            state.back.run = None
        return encode(state)


class _Patched(Processor):
    """With one function in another form."""

    what: str = ""
    instead: Any = None

    def slices(self, batch: Batch, now: float) -> Generator[None, None, Work]:
        steps = super().slices(batch, now)
        while True:
            with mock.patch(self.what, self.instead):
                try:
                    next(steps)
                except StopIteration as done:
                    work: Work = done.value
                    return work
            yield


class TakesHistoryForASetBack(_Patched):
    what, instead = "app.core.processing.clock_back._paced", staticmethod(lambda run: True)


class TakesRedeliveriesForReadings(_Patched):
    what, instead = "app.core.processing.clock_back.REDELIVERED", "no header"


class GivesAnIdTwice(_Patched):
    what, instead = "app.core.state.clock_run.Back.salt", 0
