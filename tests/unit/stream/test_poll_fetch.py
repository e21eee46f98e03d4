"""A poll, on a client that has nothing fetched: when the poll asks Kafka, and with what."""

from types import SimpleNamespace
from typing import Any

from app.stream.poll_fetch import PollFetch
from app.stream.polls import Polls

CLIENT = SimpleNamespace(_closed=True, _fetcher=None)  # so that nothing is ready


def poll(asked: list[Any], polls: Polls, *, rebalancing: bool = False, flow_active: bool = True) -> PollFetch:
    async def fetch(*args: Any) -> dict[Any, Any]:
        asked.append((*args, len(polls)))
        return {"a partition": ["a record"]}

    consumer = SimpleNamespace(flow_active=flow_active, limits=SimpleNamespace(topic="readings"))
    thread = SimpleNamespace(consumer=consumer, app=SimpleNamespace(rebalancing=rebalancing))
    return PollFetch(thread, polls.waiting, fetch)


async def test_what_is_not_there_yet_is_waited_for_until_a_rebalance_ends_it() -> None:
    asked: list[Any] = []
    polls = Polls()
    found = await poll(asked, polls).records(CLIENT, {"a partition"}, timeout=2.0, max_records=10)
    assert found == {"a partition": ["a record"]}
    ((*asked_for, seconds, most, polling),) = asked
    assert (asked_for, most, polling) == ([CLIENT, {"a partition"}], 10, 1)  # among the polls, which a rebalance ends
    assert 1.0 < seconds <= 2.0
    assert len(polls) == 0


async def test_nothing_is_asked_for_in_a_rebalance() -> None:
    asked: list[Any] = []
    assert await poll(asked, Polls(), rebalancing=True).records(CLIENT, set(), 2.0, 10) == {}
    assert asked == []


async def test_what_is_fetched_is_not_looked_at_while_nothing_flows() -> None:
    asked: list[Any] = []
    closed: Any = object()  # has no parts to look at
    await poll(asked, Polls(), flow_active=False).records(closed, set(), 2.0, 10)
    assert len(asked) == 1
