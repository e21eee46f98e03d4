"""A rebalance ends the polls that wait, a refusal of Kafka is waited out, and a cancellation is one."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from aiokafka.errors import ConsumerStoppedError, TopicAuthorizationFailedError

from app.stream.polls import Polls


async def fails(error: Exception) -> Any:
    raise error


async def found(polls: Polls, fetch: Awaitable[Any]) -> Any:
    """What a poll brings: what `fetch` finds, or nothing."""
    async with polls.waiting():
        return await fetch
    return {}


async def waiting(polls: Polls) -> "asyncio.Task[Any]":
    poll = asyncio.create_task(found(polls, asyncio.sleep(3600, {"a partition": ["a record"]})))
    await asyncio.sleep(0)
    assert len(polls) == 1
    return poll


async def test_a_poll_returns_what_is_found() -> None:
    polls = Polls()
    assert await found(polls, asyncio.sleep(0, {1: []})) == {1: []}
    assert len(polls) == 0


async def test_a_rebalance_ends_a_poll_which_has_found_nothing() -> None:
    polls = Polls()
    poll = await waiting(polls)
    polls.end()
    assert await poll == {}
    assert len(polls) == 0


async def test_who_cancels_a_poll_hears_that() -> None:
    polls = Polls()
    poll = await waiting(polls)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll


async def test_a_poll_that_is_cancelled_while_a_rebalance_ends_it_is_cancelled() -> None:
    polls = Polls()
    poll = await waiting(polls)
    polls.end()
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll


async def test_a_refusal_is_waited_out_and_a_stop_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.stream.polls.RETRY_SECONDS", 0.01)
    polls = Polls()
    assert await found(polls, fails(TopicAuthorizationFailedError())) == {}
    with pytest.raises(ConsumerStoppedError):
        await found(polls, fails(ConsumerStoppedError()))
    assert len(polls) == 0
