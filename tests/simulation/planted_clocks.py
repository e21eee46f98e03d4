"""Bugs about time: limits by the wrong clock, and what is remembered of a device's clock that was set back."""

from collections.abc import Generator, Sequence
from typing import Any
from unittest import mock

from app.core.batch.batch import Batch
from app.core.batch.output import BatchOutput
from app.core.decode.decoder import DecodedRun, DecodeLimits, Decoder
from app.core.decode.run_decoder import DecodeRun, RunDecoder
from app.core.model.records import Record
from app.core.processing.processor import Processor
from app.core.routing.address import Address
from app.core.schema.schema import Schema
from app.core.state.device_state import decode, encode
from tests.simulation.parts import SimStates


class HoldsTimesToTheClock(Processor):
    """Not to when a record came in."""

    def __init__(self, limits: DecodeLimits, schema: Schema, *args: Any, **options: Any) -> None:
        super().__init__(limits, schema, *args, **options)
        self._decoder: _Impatient = _Impatient(Decoder(limits, schema), schema)

    def run_sliced(self, batch: Batch, now: float) -> Generator[None, None, BatchOutput]:
        self._decoder.now_ms = int(now * 1000)
        return super().run_sliced(batch, now)


class _Impatient(RunDecoder):
    now_ms = 0

    def for_run(self, count: int) -> DecodeRun:
        right = super().for_run(count)

        def decode(
            records: Sequence[Record], addresses: Sequence[Address | None], arrivals: Sequence[int]
        ) -> DecodedRun:
            return right(records, addresses, [self.now_ms] * len(arrivals))

        return decode


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

    def run_sliced(self, batch: Batch, now: float) -> Generator[None, None, BatchOutput]:
        steps = super().run_sliced(batch, now)
        while True:
            with mock.patch(self.what, self.instead):
                try:
                    next(steps)
                except StopIteration as done:
                    work: BatchOutput = done.value
                    return work
            yield


class TakesHistoryForASetBack(_Patched):
    what, instead = "app.core.processing.clock_back._paced", staticmethod(lambda run: True)


class TakesRedeliveriesForReadings(_Patched):
    what, instead = "app.core.processing.clock_back.REDELIVERED", "no header"


class GivesAnIdTwice(_Patched):
    what, instead = "app.core.state.clock_run.ClockBack.salt", 0
