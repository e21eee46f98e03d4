"""The contract of all sinks, on the sink grpc and a real gRPC server."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from app.settings import Settings
from app.sinks.grpc_push.sink import GrpcPushSink
from app.sinks.port import Sink
from app.sinks.record import SinkRecord
from tests.contract.sinks.suite import SinkContract
from tests.receivers.grpc_receiver import Acks, GrpcReceiver, Item, grpc_receiver


class PushDestination:
    """A receiver as a destination of the suite."""

    tells_repeats = keeps_offsets = False

    def __init__(self, receiver: GrpcReceiver, window: int) -> None:
        self._receiver, self._window = receiver, window
        self._bad = set[int]()
        receiver.judge = self._judge

    def sink(self) -> Sink:
        target = self._receiver.target
        return GrpcPushSink("push", Settings(grpc_push_target=target, grpc_push_window=self._window))

    async def times(self, records: Sequence[SinkRecord]) -> list[int]:
        found = Counter((getattr(item, "user_id", ""), item.sequence_id) for item in self._receiver.taken)
        return [found[one.user_id, one.reading.sequence_id] for one in records]

    async def away(self) -> None:
        await self._receiver.stop()

    async def back(self) -> None:
        await self._receiver.start()

    def poison(self, record: SinkRecord) -> SinkRecord | None:
        self._bad.add(record.reading.sequence_id)
        return record

    def _judge(self, items: list[Item]) -> Acks | None:
        bad = {place: "bad" for place, item in enumerate(items) if item.sequence_id in self._bad}
        return Acks(bad) if bad else None


@pytest.fixture(params=[1, 8], ids=["one by one", "a window"])
async def destination(request: pytest.FixtureRequest) -> AsyncIterator[PushDestination]:
    async with grpc_receiver() as receiver:
        yield PushDestination(receiver, request.param)


class TestGrpcPushSink(SinkContract):
    """The suite, with one message and with several messages in flight."""
