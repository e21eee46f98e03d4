"""The contract of all sinks, on the fake that the runner is tested with."""

from collections.abc import Sequence

import pytest

from app.sinks.port import Sink
from app.sinks.record import SinkRecord
from tests.contract.sinks.suite import SinkContract
from tests.fake_sink import Destination, FakeSink


class InMemory:
    """A Destination as a destination of the suite."""

    tells_repeats = False

    def __init__(self, *, keeps_offsets: bool) -> None:
        self._real, self._bad = Destination(), set[int]()
        self._real.keeps_offsets = self.keeps_offsets = keeps_offsets
        self._real.refuses = lambda record: record.offset in self._bad

    def sink(self) -> Sink:
        return FakeSink(self._real)

    async def times(self, records: Sequence[SinkRecord]) -> list[int]:
        return [self._real.written[record.partition, record.offset] for record in records]

    async def away(self) -> None:
        self._real.away = True

    async def back(self) -> None:
        self._real.away = False

    def poison(self, record: SinkRecord) -> SinkRecord | None:
        self._bad.add(record.offset)
        return record


@pytest.fixture(params=[False, True], ids=["offsets by Kafka", "keeps offsets"])
def destination(request: pytest.FixtureRequest) -> InMemory:
    return InMemory(keeps_offsets=request.param)


class TestFakeSink(SinkContract):
    """The suite, twice."""
