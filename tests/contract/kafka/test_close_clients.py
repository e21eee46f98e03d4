"""What closing leans on inside aiokafka; that it works is shown with a frozen and a killed Kafka (tests/faults)."""

import asyncio
import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer.sender import Sender

from app.kafka.close_clients import close_consumer


def test_the_private_parts_are_there() -> None:
    assert "self._sender" in inspect.getsource(AIOKafkaProducer.__init__)
    for name in ("_client", "_coordinator", "_fetcher"):
        assert f"self.{name}" in inspect.getsource(AIOKafkaConsumer.__init__)
    assert "self._pending_tasks = set()" in inspect.getsource(Fetcher.__init__)
    for name in ("_coordination_task", "_heartbeat_task", "_commit_refresh_task"):
        assert f"self.{name}" in inspect.getsource(GroupCoordinator.__init__)
    assert inspect.iscoroutinefunction(AIOKafkaClient.close)
    assert inspect.iscoroutinefunction(Sender.close)


def test_the_consumer_still_stumbles_over_its_own_cancelled_fetches() -> None:
    """When this fails, aiokafka has corrected this, and half of `_cut` may go."""
    assert "x.cancel()\n            await x" in inspect.getsource(Fetcher.close)


class Consumer:
    """As much of a consumer as closing touches; its tasks are as stuck as those of a consumer whose Kafka is frozen."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self._failure = failure
        self.closed = False
        self.stuck = [asyncio.create_task(asyncio.sleep(1000)) for _ in range(2)]
        self._coordinator = SimpleNamespace(_coordination_task=self.stuck[0])
        self._fetcher = SimpleNamespace(_pending_tasks={self.stuck[1]})
        self._client = self

    async def close(self) -> None:
        self.closed = True

    async def stop(self) -> None:
        if self._failure:
            raise self._failure
        await self.stuck[0]


@pytest.mark.parametrize("failure", [None, asyncio.CancelledError(), ValueError("a bug of theirs")], ids=repr)
async def test_whatever_stop_does_nothing_is_left_behind(failure: BaseException | None) -> None:
    consumer: Any = Consumer(failure)
    async with asyncio.timeout(10):
        await close_consumer(consumer, 0.05)
    assert consumer.closed
    assert all(task.cancelled() for task in consumer.stuck)
