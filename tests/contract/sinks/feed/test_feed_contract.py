"""The contract of all sinks, on a feed and a real HTTP server."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from app.settings import Settings
from app.sinks.feed.sink import FeedSink
from app.sinks.port import Sink
from app.sinks.record import SinkRecord
from tests.contract.sinks.suite import SinkContract
from tests.receivers.http_receiver import Answer, HttpReceiver, Item, http_receiver


class FeedDestination:
    """A receiver as a destination of the suite."""

    tells_repeats = keeps_offsets = False

    def __init__(self, receiver: HttpReceiver, requests: int) -> None:
        self._receiver, self._requests = receiver, requests
        self._bad = set[tuple[str, int]]()
        receiver.judge = self._judge

    def sink(self) -> Sink:
        return FeedSink("feed", Settings(feed_url=self._receiver.url, feed_requests=self._requests))

    async def times(self, records: Sequence[SinkRecord]) -> list[int]:
        found = Counter(_name(item) for item in self._receiver.taken)
        return [found[one.user_id, one.reading.sequence_id] for one in records]

    async def away(self) -> None:
        await self._receiver.stop()

    async def back(self) -> None:
        await self._receiver.start()

    def poison(self, record: SinkRecord) -> SinkRecord | None:
        self._bad.add((record.user_id, record.reading.sequence_id))
        return record

    def _judge(self, items: Sequence[Item]) -> Answer | None:
        return Answer(422) if any(_name(item) in self._bad for item in items) else None


def _name(item: Item) -> tuple[str, int]:
    return item["user_id"], item["sequence_id"]


@pytest.fixture(params=[1, 3], ids=["one request", "three requests"])
async def destination(request: pytest.FixtureRequest) -> AsyncIterator[FeedDestination]:
    async with http_receiver() as receiver:
        yield FeedDestination(receiver, request.param)


class TestFeedSink(SinkContract):
    """The suite, with one request and with several concurrent requests."""
