"""Which rebalance has ended: they are counted, since one may begin while another is still recovered from."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.subscription_state import SubscriptionState
from faust.types import TP

from app.core.sweeper.watermark import LogPosition
from app.stream.log_progress import log_positions
from app.stream.rebalance.rounds import RebalanceRounds

ZERO = TopicPartition("t", 0)


def test_the_end_of_one_rebalance_says_nothing_of_the_next() -> None:
    rounds = RebalanceRounds()
    assert not rounds.rebalancing
    rounds.rebalancing_count = 1
    assert rounds.rebalancing
    assert rounds.superseded
    rounds.joined = 1
    assert not rounds.superseded
    rounds.rebalancing_count = 2  # in the middle of the recovery of the first
    rounds.ended = 1
    rounds.rebalancing = False  # as Faust says it
    assert rounds.rebalancing
    assert rounds.superseded
    rounds.joined = rounds.ended = 2
    assert not rounds.rebalancing


def client(assigned: set[TopicPartition] | None) -> Any:
    """aiokafka's own books of a subscription; no server."""
    state = SubscriptionState()
    state.subscribe({"t"})
    if assigned is not None:
        state.assign_from_subscribed(assigned)
    return SimpleNamespace(_subscription=state)


def consumer(kafka: Any, app: Any = None) -> Any:
    app = app or SimpleNamespace(rebalancing=False, tables=SimpleNamespace(actives_ready=True))
    flight = SimpleNamespace(start={TP("t", 0): 5}, epoch=3)
    return SimpleNamespace(app=app, flow_active=True, flight=flight, client=kafka)


@pytest.mark.parametrize("assigned", [None, set(), {TopicPartition("t", 1)}])
async def test_there_is_no_tide_when_the_assignment_is_gone(assigned: set[TopicPartition] | None) -> None:
    """The client's thread knows of a second rebalance, and the loop does not."""
    assert log_positions(consumer(client(assigned))) == {}


async def test_there_is_no_tide_before_the_client_has_subscribed() -> None:
    assert log_positions(consumer(SimpleNamespace(_subscription=SubscriptionState()))) == {}


async def test_a_log_position_is_what_the_client_was_answered_last() -> None:
    kafka = client({ZERO})
    assert log_positions(consumer(kafka)) == {0: LogPosition(3, 5, None, None)}
    state = kafka._subscription.subscription.assignment.state_value(ZERO)
    state.highwater, state.timestamp = 9, 12_500
    assert log_positions(consumer(kafka)) == {0: LogPosition(3, 5, 9, 12.5)}


async def test_there_is_no_tide_while_one_rebalance_has_ended_and_the_next_has_not() -> None:
    rounds: Any = RebalanceRounds()
    rounds.tables = SimpleNamespace(actives_ready=True)
    rounds.rebalancing_count, rounds.ended = 2, 1
    assert log_positions(consumer(client({ZERO}), rounds)) == {}
    rounds.ended = 2
    assert 0 in log_positions(consumer(client({ZERO}), rounds))
