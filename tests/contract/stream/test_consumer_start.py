"""The thread that talks to Kafka waits for Kafka at its start; a stop ends the waiting, and a bug ends the worker."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from structlog.testing import capture_logs
from tenacity import wait_chain, wait_fixed

from app.stream import consumer_thread
from tests.contract.stream.faust_worker import Worker
from tests.waiting import until

NOBODY = "127.0.0.1:1"
Run = Callable[[Coroutine[Any, Any, None]], Coroutine[Any, Any, None]]


@pytest.fixture
async def thread(tmp_path: Path) -> Any:
    consumer: Any = Worker(NOBODY, "readings", "none", tmp_path).consumer
    thread = consumer._thread
    yield thread
    thread._stopped.set()  # ends the task that waits for this
    await asyncio.to_thread(thread.thread_loop.run_until_complete, asyncio.sleep(0))
    thread.thread_loop.close()


@pytest.fixture
def run(thread: Any) -> Run:
    """Runs steps of a test in the loop of the thread."""

    async def run(steps: Coroutine[Any, Any, None]) -> None:
        await asyncio.to_thread(thread.thread_loop.run_until_complete, steps)

    return run


def clients(broker: str, made: list[AIOKafkaConsumer]) -> Callable[[Any], AIOKafkaConsumer]:
    """What makes clients of `broker`, in the place of the thread's; `made` has the clients made so far."""

    def make(loop: Any) -> AIOKafkaConsumer:
        made.append(AIOKafkaConsumer(bootstrap_servers=broker))
        return made[-1]

    return make


async def test_kafka_is_waited_for_until_a_stop(thread: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[AIOKafkaConsumer] = []
    # The second pause is longer than the test waits: the stop ends it.
    monkeypatch.setattr(consumer_thread, "wait_fixed", lambda seconds: wait_chain(wait_fixed(seconds), wait_fixed(60)))
    thread._create_consumer = clients(NOBODY, made)

    async def steps() -> None:
        starting = asyncio.create_task(thread.on_start())
        await until(lambda: len(made) == 2 and made[1]._closed)
        thread._stopped.set()
        async with asyncio.timeout(20):
            await starting

    with capture_logs() as logs:
        await run(steps())
    assert [line["event"] for line in logs].count("waiting_for_kafka") == 2
    assert thread.client is None
    assert all(client._closed for client in made)


async def test_a_stop_ends_a_start_that_gets_no_answer(thread: Any, run: Run) -> None:
    made: list[AIOKafkaConsumer] = []
    accepted: list[Any] = []

    async def steps() -> None:
        server = await asyncio.start_server(lambda reader, writer: accepted.append(writer), "127.0.0.1", 0)
        async with server:
            thread._create_consumer = clients(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", made)
            starting = asyncio.create_task(thread.on_start())
            await until(lambda: accepted)
            thread._stopped.set()
            async with asyncio.timeout(5):
                await starting
            accepted[0].close()

    await run(steps())
    assert thread.client is None
    assert made[0]._closed


async def test_a_bug_ends_the_start(thread: Any, run: Run) -> None:
    made: list[AIOKafkaConsumer] = []

    def create(loop: Any) -> AIOKafkaConsumer:
        consumer = clients(NOBODY, made)(loop)
        consumer._client.bootstrap = broken
        return consumer

    async def broken() -> None:
        raise ValueError("a bug")

    thread._create_consumer = create
    with pytest.raises(ValueError, match="a bug"):
        await run(thread.on_start())
    assert made[0]._closed
