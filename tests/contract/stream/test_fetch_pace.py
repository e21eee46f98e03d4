"""Requests to a Kafka broker follow one another at a pace; an idle stream waits for nothing."""

import asyncio
import inspect
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher

from app.kafka.fetch.fetcher import pace_fetches


class Asked:
    """A fetcher whose questions take `seconds` each, on a clock that nothing else moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> None:
        self.times: list[float] = []
        self._seconds, self._now = seconds, 1000.0
        monkeypatch.setattr("app.kafka.fetch.paced_fetch.time", SimpleNamespace(monotonic=lambda: self._now))
        loop = SimpleNamespace(sleep=self._sleep, CancelledError=asyncio.CancelledError)
        monkeypatch.setattr("app.kafka.fetch.paced_fetch.asyncio", loop)

    async def _sleep(self, seconds: float) -> None:
        self._now += seconds

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> bool:
        self.times.append(self._now)
        self._now += self._seconds
        return True

    async def ask(self, *nodes: int) -> list[float]:
        """Ask brokers one after another; seconds from one question to the next."""
        for node in nodes:
            assert await self._proc_fetch_request(None, node, None)
        return [round(after - before, 6) for before, after in pairwise(self.times)]


async def test_a_broker_is_asked_again_after_a_breath(monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher = Asked(monkeypatch, seconds=0.002)
    pace_fetches(SimpleNamespace(_fetcher=fetcher), 0.005)
    assert await fetcher.ask(1, 1, 1) == [0.005, 0.005]


async def test_an_answer_that_took_longer_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher = Asked(monkeypatch, seconds=0.2)
    pace_fetches(SimpleNamespace(_fetcher=fetcher), 0.005)
    assert await fetcher.ask(1, 1, 1) == [0.2, 0.2]


async def test_each_broker_has_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher = Asked(monkeypatch)
    pace_fetches(SimpleNamespace(_fetcher=fetcher), 0.005)
    assert await fetcher.ask(1, 2, 1, 2) == [0, 0.005, 0]


async def test_a_question_that_is_taken_back_brings_nothing() -> None:
    asked = []

    class Fetcher:
        async def _proc_fetch_request(self, *question: Any) -> bool:
            asked.append(question)
            return True

    fetcher: Any = Fetcher()
    pace_fetches(SimpleNamespace(_fetcher=fetcher), 60.0)
    assert await fetcher._proc_fetch_request(None, 1, "first")
    waiting = asyncio.ensure_future(fetcher._proc_fetch_request(None, 1, "second"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    assert await waiting is False
    assert asked == [(None, 1, "first")]


def test_aiokafka_asks_by_that_method() -> None:
    """aiokafka sends one request to a broker at a time, each by way of the instance's own attribute."""
    ask, routine = Fetcher._proc_fetch_request, inspect.getsource(Fetcher._fetch_requests_routine)
    assert list(inspect.signature(ask).parameters) == ["self", "assignment", "node_id", "request"]
    assert "self._proc_fetch_request(assignment, node_id, request)" in routine
    assert "self._in_flight.add(node_id)" in routine
    assert "return False" in inspect.getsource(ask).partition("asyncio.CancelledError")[2]
