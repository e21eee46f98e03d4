"""Both clients against a real server that fails as a test says: nothing is lost, and nothing overtakes."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest

from app.client import (
    Acked,
    AsyncIngestClient,
    ClientCredentials,
    Event,
    GatewayRefusedError,
    IngestClient,
    Metric,
    NotAckedError,
    Pace,
)
from app.client.sent_batch import LATER, Item
from tests.contract.client.scripted_gateway import Fail, Refuse, ScriptedGateway, Silent, Step
from tests.waiting import until

FAST = Pace(batch_items=10, in_flight=4, linger=5, answer=5, first_pause=0.01, longest_pause=0.05)
Client = Callable[..., "Calls"]


class Calls:
    """The calls of a client as functions that return when they are done, so that one test is for both clients."""

    def __init__(self, kind: str, target: str, pace: Pace = FAST, credentials: ClientCredentials | None = None) -> None:
        self._asynchronous = kind == "asyncio"
        self._arguments = (target, credentials, pace, self._failed)
        self.failures: list[tuple[int, float, str]] = []

    def _failed(self, failures: int, pause: float, error: BaseException) -> None:
        self.failures.append((failures, pause, str(error)))

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        if not self._asynchronous:
            with IngestClient(*self._arguments) as client:
                return getattr(client, name)(*arguments, **named)
        return asyncio.run(self._awaited(name, *arguments, **named))

    async def _awaited(self, name: str, *arguments: Any, **named: Any) -> Any:
        async with AsyncIngestClient(*self._arguments) as client:
            return await getattr(client, name)(*arguments, **named)

    def stream(self, items: Iterable[Item]) -> list[Acked]:
        if not self._asynchronous:
            with IngestClient(*self._arguments) as client:
                return list(client.stream(items))
        return asyncio.run(self._streamed(items))

    async def _streamed(self, items: Iterable[Item]) -> list[Acked]:
        async with AsyncIngestClient(*self._arguments) as client:
            return [acked async for acked in client.stream(items)]


@pytest.fixture(params=["asyncio", "sync"])
def client(request: pytest.FixtureRequest) -> Client:
    return lambda *arguments, **named: Calls(request.param, *arguments, **named)


def events(count: int) -> list[Event]:
    return [Event(user_id="u", device_id="d", sequence_id=number, time_us=1) for number in range(count)]


def numbers(items: Iterable[Item]) -> list[int]:
    return [item.sequence_id for item in items]


def first_times(taken: Iterable[Item]) -> list[int]:
    return list(dict.fromkeys(numbers(taken)))


def test_what_is_pushed_is_taken(client: Client, gateway: ScriptedGateway) -> None:
    acked = client(gateway.target).call("push", events(25))
    assert (acked.accepted, acked.refused, len(acked.items)) == (25, [], 25)
    assert numbers(gateway.taken) == list(range(25))
    assert gateway.batches == [10, 10, 5]
    metrics = client(gateway.target).call("push", [Metric(node_id="n", sensor_id="s", value=1)], force_flush=True)
    assert metrics.accepted == 1
    assert gateway.flushes == 1
    assert client(gateway.target).call("push", []).accepted == 0


def test_what_is_streamed_is_taken_in_its_order(client: Client, gateway: ScriptedGateway) -> None:
    answers = client(gateway.target).stream(iter(events(205)))
    assert [one.first for one in answers] == list(range(0, 205, 10))
    assert sum(one.accepted for one in answers) == 205
    assert numbers(gateway.taken) == list(range(205))
    assert client(gateway.target).stream([]) == []


def test_a_stream_of_metrics_is_one(client: Client, gateway: ScriptedGateway) -> None:
    client(gateway.target).stream(Metric(node_id="n", sensor_id="s", value=one) for one in range(30))
    assert [item.value for item in gateway.taken if isinstance(item, Metric)] == list(range(30))


SCRIPTS: list[list[Step]] = [
    [Fail()],
    [None, Fail(), Fail(), None, Fail(taken=True)],
    [Fail(taken=True)] * 3,
    [None, None, Fail(grpc.StatusCode.INTERNAL), None, None, Fail(grpc.StatusCode.ABORTED, taken=True)],
    [Fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "over a limit", 30), None, Fail(grpc.StatusCode.CANCELLED)],
    [Refuse((0, 3), LATER), None, Refuse((9,), LATER), Fail()],
    [None, Refuse(tuple(range(10)), LATER), Refuse(tuple(range(10)), LATER), None, Fail(taken=True)],
]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("way", ["push", "stream"])
def test_whatever_fails_nothing_is_lost(client: Client, gateway: ScriptedGateway, script: list[Step], way: str) -> None:
    gateway.steps.extend(script)
    calls = client(gateway.target)
    answers = calls.stream(events(100)) if way == "stream" else [calls.call("push", events(100))]
    assert sum(one.accepted for one in answers) == 100
    assert sorted(set(numbers(gateway.taken))) == list(range(100))
    assert calls.failures
    if not any(isinstance(step, Refuse) for step in script):  # later batches overtake a batch that is put off
        assert first_times(gateway.taken) == list(range(100)), "nothing overtakes what has no ack"


def test_refused_items_are_named_by_their_place(client: Client, gateway: ScriptedGateway) -> None:
    gateway.steps.extend([None, Refuse((2, 7)), None, Refuse((0,))])
    answers = client(gateway.target).stream(events(35))
    refused = [item for one in answers for item in one.refused]
    assert [(one.index, one.item.sequence_id) for one in refused] == [(12, 12), (17, 17), (30, 30)]
    assert {(one.reason, one.error) for one in refused} == {("bad_id", "as the script says")}
    assert sum(one.accepted for one in answers) == 32


def test_a_gateway_that_says_when_is_obeyed(client: Client, gateway: ScriptedGateway) -> None:
    gateway.steps.append(Fail(retry_after_ms=300))
    calls = client(gateway.target)
    began = time.monotonic()
    calls.call("push", events(1))
    assert time.monotonic() - began > 0.3
    assert calls.failures[0][1] == 0.3


@pytest.mark.parametrize("way", ["push", "stream"])
def test_a_refused_call_gives_its_items_back(client: Client, gateway: ScriptedGateway, way: str) -> None:
    gateway.steps.extend([None, Fail(grpc.StatusCode.PERMISSION_DENIED, "not yours")])
    calls = client(gateway.target, Pace(batch_items=10, in_flight=1))
    with pytest.raises(GatewayRefusedError, match="the gateway refuses: PERMISSION_DENIED: not yours") as caught:
        calls.stream(events(20)) if way == "stream" else calls.call("push", events(20))
    assert numbers(caught.value.items) == list(range(10, 20))


@pytest.mark.parametrize("way", ["push", "stream"])
def test_patience_ends_with_the_items_without_an_ack(client: Client, gateway: ScriptedGateway, way: str) -> None:
    gateway.steps.extend([None, *[Fail()] * 1000])
    pace = Pace(batch_items=10, in_flight=1, give_up=0.6, first_pause=0.01, longest_pause=0.05)
    calls = client(gateway.target, pace)
    with pytest.raises(NotAckedError, match=r"no ack within 0\.6 s: UNAVAILABLE") as caught:
        calls.stream(events(20)) if way == "stream" else calls.call("push", events(20))
    assert numbers(caught.value.items) == list(range(10, 20))
    assert len(calls.failures) > 2


@pytest.mark.parametrize("way", ["push", "stream"])
def test_patience_ends_with_what_is_put_off_for_ever(client: Client, gateway: ScriptedGateway, way: str) -> None:
    gateway.steps.extend([None, *[Refuse(tuple(range(10)), LATER)] * 1000])
    pace = Pace(batch_items=10, in_flight=1, give_up=0.6, first_pause=0.01, longest_pause=0.05)
    calls = client(gateway.target, pace)
    with pytest.raises(
        NotAckedError, match=r"^no ack within 0\.6 s: the gateway takes items of a batch later"
    ) as caught:
        calls.stream(events(20)) if way == "stream" else calls.call("push", events(20))
    assert numbers(caught.value.items) == list(range(10, 20))


@pytest.mark.parametrize("way", ["push", "stream"])
def test_a_gateway_that_says_nothing_is_asked_anew(client: Client, gateway: ScriptedGateway, way: str) -> None:
    gateway.steps.append(Silent())
    calls = client(gateway.target, Pace(batch_items=10, answer=0.8, first_pause=0.01))
    answers = calls.stream(events(20)) if way == "stream" else [calls.call("push", events(20))]
    assert sum(one.accepted for one in answers) == 20
    assert first_times(gateway.taken) == list(range(20))
    assert len(calls.failures) == 1


def test_a_gateway_that_comes_later_gets_all(client: Client, gateway: ScriptedGateway) -> None:
    gateway.stop()
    calls = client(gateway.target)
    threading.Timer(0.5, gateway.start).start()
    answers = calls.stream(events(50))
    assert sum(one.accepted for one in answers) == 50
    assert numbers(gateway.taken) == list(range(50))


def test_health_is_asked_once(client: Client, gateway: ScriptedGateway) -> None:
    assert client(gateway.target).call("health").queue_depth == 3
    gateway.stop()
    calls = client(gateway.target)
    with pytest.raises(NotAckedError):
        calls.call("health")
    assert calls.failures == []


def test_flush_is_asked_until_it_is_answered(client: Client, gateway: ScriptedGateway) -> None:
    client(gateway.target).call("push", events(3))
    gateway.steps.append(Fail())
    assert client(gateway.target).call("flush") == 3


def test_the_token_is_shown_with_each_call(client: Client, gateway: ScriptedGateway, tmp_path: Path) -> None:
    calls = client(gateway.target, credentials=ClientCredentials(token="t-1"))
    calls.call("push", events(1))
    calls.stream(events(1))
    assert [one["authorization"] for one in gateway.metadata] == ["Bearer t-1"] * 2
    file = tmp_path / "token"
    file.write_text("\ufefft-2\n")
    client(gateway.target, credentials=ClientCredentials(token_file=file)).call("flush")
    client(gateway.target, credentials=ClientCredentials(token_file=file)).call("push", events(1))
    assert gateway.metadata[-1]["authorization"] == "Bearer t-2"
    client(gateway.target).call("push", events(1))
    assert "authorization" not in gateway.metadata[-1]


def test_what_is_in_flight_is_bounded(client: Client, gateway: ScriptedGateway) -> None:
    """A source is read no faster than the gateway acknowledges, and than its acks are looked at."""
    gateway.held.clear()
    given: list[int] = []

    def source() -> Iterator[Event]:
        for event in events(1000):
            given.append(event.sequence_id)
            if len(given) > 10 * (FAST.in_flight + 3):
                gateway.held.set()
            yield event

    def look() -> None:
        bounds.append(len(given))
        gateway.held.set()

    bounds: list[int] = []
    threading.Timer(0.5, look).start()
    answers = client(gateway.target).stream(source())
    assert sum(one.accepted for one in answers) == 1000
    assert bounds[0] <= 10 * (FAST.in_flight + 2)


async def test_what_a_source_raises_comes_after_its_items(gateway: ScriptedGateway) -> None:
    async def source() -> AsyncIterator[Event]:
        for event in events(15):
            yield event
        raise LookupError("the source")

    answers: list[Acked] = []

    async def run(client: AsyncIngestClient) -> None:
        async for acked in client.stream(source()):
            answers.append(acked)

    async with AsyncIngestClient(gateway.target, pace=FAST) as client:
        with pytest.raises(LookupError, match="the source"):
            await run(client)
    assert sum(one.accepted for one in answers) == 15


def test_what_a_source_raises_ends_a_sync_stream(gateway: ScriptedGateway) -> None:
    def source() -> Iterator[Event]:
        yield from events(15)
        raise LookupError("the source")

    with IngestClient(gateway.target, pace=FAST) as client:
        with pytest.raises(LookupError, match="the source"):
            list(client.stream(source()))
        assert client.push(events(5)).accepted == 5


async def test_items_that_come_slowly_do_not_wait_for_a_full_batch(gateway: ScriptedGateway) -> None:
    gone = asyncio.Event()

    async def source() -> AsyncIterator[Event]:
        for event in events(3):
            yield event
        await gone.wait()

    async with (
        AsyncIngestClient(gateway.target, pace=Pace(linger=0.01)) as client,
        aclosing(client.stream(source())) as stream,
    ):
        first = await anext(stream)
        assert numbers(first.items) == [0, 1, 2]
        gone.set()
        assert [one async for one in stream] == []


async def test_a_stream_may_be_left(gateway: ScriptedGateway) -> None:
    async with AsyncIngestClient(gateway.target, pace=FAST) as client:
        async with aclosing(client.stream(events(1000))) as stream:
            async for acked in stream:
                assert acked.accepted == 10
                break
        before = len(asyncio.all_tasks())
        await until(lambda: len(asyncio.all_tasks()) <= before)
    assert len([task for task in asyncio.all_tasks() if task.get_name().startswith("sending")]) == 0


def test_a_sync_stream_may_be_left(gateway: ScriptedGateway) -> None:
    with IngestClient(gateway.target, pace=FAST) as client:
        for acked in client.stream(events(1000)):
            assert acked.accepted == 10
            break
        assert client.push(events(5)).accepted == 5
    client.close()


def test_an_idle_stream_that_the_gateway_ends_costs_nothing(gateway: ScriptedGateway) -> None:
    failures: list[int] = []

    async def source() -> AsyncIterator[Event]:
        yield events(1)[0]
        await asyncio.sleep(0.2)
        gateway.stop()
        gateway.start()
        await asyncio.sleep(0.2)
        yield events(2)[1]

    async def run() -> list[Acked]:
        pace = Pace(linger=0.01, first_pause=0.01)
        async with AsyncIngestClient(gateway.target, None, pace, lambda *_: failures.append(1)) as client:
            return [acked async for acked in client.stream(source())]

    answers = asyncio.run(run())
    assert [numbers(one.items) for one in answers] == [[0], [1]]


def test_clients_of_several_threads_share_one(gateway: ScriptedGateway) -> None:
    with IngestClient(gateway.target, pace=FAST) as client:
        threads = [threading.Thread(target=lambda: client.push(events(50))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(gateway.taken) == 200
